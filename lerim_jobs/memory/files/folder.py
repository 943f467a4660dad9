"""A project's memory folder on disk: what lies in it, reading one file, replacing one file, and never anything outside.

Links are not followed, pipes and devices not opened, hidden files not looked at. Paths are relative to the folder, with `/`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec

from lerim_jobs import faults
from lerim_jobs.ids import digest
from lerim_jobs.machine import whole_file
from lerim_jobs.machine.whole_file import Fsync

__all__ = [
    "CONFLICT",
    "MAX_BYTES",
    "LeftAlone",
    "Look",
    "Scan",
    "discard",
    "exists",
    "keep_names",
    "move",
    "read",
    "replace",
    "scan",
    "shown",
]

MAX_BYTES = 1_048_576
CONFLICT = ".conflict.md"
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters of a name that a terminal acts upon or does not show, and bytes that are no UTF-8."""

_CANNOT_SYNC_FOLDERS = (errno.EINVAL, errno.ENOTSUP)
"""What file systems say that keep names without being asked, or cannot promise to."""


class LeftAlone(Exception):
    """Why a file was not touched."""


class Look(NamedTuple):
    """How a file looks from outside; it has not changed while this has not."""

    size_bytes: int
    mtime_ns: int
    inode: int


class Scan(msgspec.Struct):
    """What lies in the folder. `odd` are things that are left alone, with the reason; below an odd folder nothing is known.

    `is_there`: the folder exists.
    """

    is_there: bool
    files: dict[str, Look] = {}
    odd: dict[str, str] = {}

    def knows_gone(self, path: str) -> bool:
        """Whether the file is surely not there: what was not looked into may hold it."""
        return path not in self.files and not any(
            path == odd or odd == "" or path.startswith(f"{odd}/") for odd in self.odd
        )


def scan(folder: Path) -> Scan:
    """Look at everything once. Left-over temporary files of processes that are gone are removed on the way."""
    found = Scan(os.path.isdir(folder))
    if not found.is_there:
        return found
    if not _is_inside(folder, ""):
        found.odd[""] = "a symbolic link leads out of the project; nothing is read or written"
        return found
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            with os.scandir(folder / prefix) as entries:
                for entry in entries:
                    _look(entry, prefix, found, waiting)
        except OSError as exc:
            found.odd[prefix.rstrip("/")] = f"unreadable: {exc.strerror}"
    return found


def read(folder: Path, path: str) -> bytes:
    """The bytes of a plain file. Raises OSError."""
    descriptor = os.open(folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_BYTES:
            raise OSError(0, "not a plain file of at most 1 MiB")
        return file.read(MAX_BYTES + 1)


def exists(folder: Path, path: str) -> bool:
    """Whether anything lies there, whatever it is."""
    return os.path.lexists(folder / path)


def move(folder: Path, path: str, to: str) -> None:
    """Give a file another place where nothing lies yet. Raises LeftAlone; one that is not there is fine."""
    with _leaving("moved"):
        _check(folder, to)
        if exists(folder, to):
            raise LeftAlone("something lies there already")
        (folder / to).parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            os.rename(folder / path, folder / to)


def replace(folder: Path, path: str, data: bytes, *, over: set[str], fsync: Fsync = os.fsync) -> bool:
    """Put the file there in one step; False: its bytes were these already. Raises LeftAlone.

    What is there is only replaced when its digest is in `over`. Its bytes outlive a power cut from then on, its name only
    with `keep_names`.
    """
    target = folder / path
    with _leaving("written"):
        _check(folder, path)
        mode = 0o644
        if exists(folder, path):
            there = read(folder, path)
            if there == data:
                return False
            if digest(there) not in over:
                raise LeftAlone("it was changed just now: looked at again next time")
            mode = stat.S_IMODE(target.stat().st_mode)
        target.parent.mkdir(parents=True, exist_ok=True)
        if faults.armed(faults.DISK_FULL):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole_file.put(target, data, mode=mode, fsync=fsync)
    return True


def discard(folder: Path, path: str, *, only: set[str] | None) -> None:
    """Remove the file if its digest is in `only` (None: whatever it holds); one that is not there is fine. Raises LeftAlone."""
    with _leaving("removed"), suppress(FileNotFoundError):
        _check(folder, path)
        if only is not None and digest(read(folder, path)) not in only:
            raise LeftAlone("it was changed by hand: left alone")
        (folder / path).unlink()


def keep_names(folder: Path, paths: Iterable[str], fsync: Fsync = os.fsync) -> None:
    """Let it outlive a power cut that these files are there, or are no more. Raises OSError.

    Each folder they are in is synced once, and once each above it up to the project: it may be new as well.
    """
    project = folder.parent.parent
    places = {place for path in paths for place in (folder / path).parents if place.is_relative_to(project)}
    for place in sorted(places, key=lambda place: len(place.parts), reverse=True):
        with suppress(FileNotFoundError):
            _sync(place, fsync)


def shown(path: str) -> str:
    """A path that is safe to print and to store."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", path)


def _look(entry: os.DirEntry[str], prefix: str, found: Scan, waiting: list[str]) -> None:
    name = entry.name
    if name.startswith("."):
        with suppress(OSError):
            if whole_file.is_abandoned(entry):
                os.unlink(entry.path)
        return
    path = prefix + name
    is_markdown = name.endswith(".md")
    if entry.is_symlink():
        if is_markdown or entry.is_dir():
            found.odd[path] = "a symbolic link: not followed"
    elif entry.is_dir():
        waiting.append(f"{path}/")
    elif is_markdown and not name.endswith(CONFLICT):
        about = entry.stat(follow_symlinks=False)
        if _UNSEEN.search(path):
            found.odd[path] = "its name has characters that cannot be printed"
        elif not stat.S_ISREG(about.st_mode):
            found.odd[path] = "not a plain file"
        elif about.st_size > MAX_BYTES:
            found.odd[path] = "larger than 1 MiB"
        else:
            found.files[path] = Look(about.st_size, about.st_mtime_ns, about.st_ino)


@contextmanager
def _leaving(done: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise LeftAlone(f"cannot be {done}: {exc.strerror}") from exc


def _check(folder: Path, path: str) -> None:
    pure = PurePosixPath(path)
    is_path = not _UNSEEN.search(path) and path.endswith(".md") and not pure.is_absolute() and ".." not in pure.parts
    if not is_path or not _is_inside(folder, path):
        raise LeftAlone("a symbolic link or '..' leads out of the memory folder; nothing was changed")


def _is_inside(folder: Path, path: str) -> bool:
    """Whether the place stays below the project when all links are followed, and is itself no link."""
    project = os.path.realpath(folder.parent.parent)
    target = folder / path
    real = os.path.realpath(target.parent if path else target)
    return os.path.commonpath([project, real]) == project and not (path and target.is_symlink())


def _sync(place: Path, fsync: Fsync) -> None:
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fsync(descriptor)
    except OSError as exc:
        if exc.errno not in _CANNOT_SYNC_FOLDERS:
            raise
    finally:
        os.close(descriptor)
