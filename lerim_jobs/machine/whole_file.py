"""Files that are replaced whole: written beside their place and renamed, so a reader sees the old one or the new, never half.

The name beside it says which process writes: what a killed one left is removed as soon as somebody looks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lerim_jobs.machine import identity

__all__ = ["Fsync", "beside", "is_abandoned", "put", "sweep"]

Fsync = Callable[[int], None]
"""Called with the descriptor of a file or folder: returns when what was written there outlives a power cut."""

_HEAD, _TAIL = ".lerim-", ".tmp"
_UNKNOWN_WRITER_S = 60.0
"""For a writer of another machine or container. A write takes milliseconds; one that loses its file is done again."""


def put(path: Path, data: bytes, *, mode: int = 0o600, fsync: Fsync | None = None) -> None:
    """Replace the file, or make it, with exactly this mode. Raises OSError; then nothing is left beside it."""
    hidden = beside(path)
    try:
        with open(os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            if fsync:
                fsync(file.fileno())
        os.replace(hidden, path)
    except BaseException:
        with suppress(OSError):
            hidden.unlink()
        raise


def beside(path: Path) -> Path:
    """A hidden name in the same folder, new at every call."""
    return path.with_name(f"{_HEAD}{identity.me().replace('/', ',')}{_TAIL}")


def is_abandoned(entry: os.DirEntry[str] | Path) -> bool:
    """Whether it was written here by a process that is gone. Raises OSError for what is gone itself."""
    name = entry.name
    if not (name.startswith(_HEAD) and name.endswith(_TAIL)):
        return False
    runs = identity.alive(name[len(_HEAD) : -len(_TAIL)].replace(",", "/"))
    if runs is None:
        return time.time() - os.lstat(entry).st_mtime > _UNKNOWN_WRITER_S
    return not runs


def sweep(folder: Path) -> None:
    """Remove what killed writers left in the folder and below it."""
    for path in folder.rglob(f"{_HEAD}*{_TAIL}"):
        with suppress(OSError):
            if is_abandoned(path):
                path.unlink()
