"""Putting a backup in the place of the state, so that a crash at any moment leaves one of the two whole.

What is put back is checked in a folder of its own first. Then a marker says what is about to move where; while it stands no
command opens the state (`Home.ensure`). Each file is moved by a rename, the old ones aside, then the new ones in, and the
marker goes last. Which files have moved shows from where they are, so it can be finished or rolled back from anywhere.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from lerim_jobs.care.backup import DATABASES, SCRATCH, Manifest, file_digest, unpacked, verify
from lerim_jobs.clock import iso, now_ms
from lerim_jobs.errors import BadInput, ConflictError, CorruptLog
from lerim_jobs.machine.locks import exclusive_now
from lerim_jobs.machine.processes import schedulers_running, workers_running
from lerim_jobs.paths import Home, make_private

__all__ = ["Restored", "finish", "restore", "roll_back"]

_DERIVED = ("search.sqlite3",)


class Restored(msgspec.Struct, frozen=True):
    """What was put back, and the folder with what was there before."""

    manifest: Manifest
    kept: Path


class _Move(msgspec.Struct, frozen=True):
    """What the marker says: the folder of the new files and the one for the old, below the state folder."""

    scratch: str
    kept: str
    manifest: Manifest


def restore(home: Home, source: Path) -> Restored:
    """Put a backup in the place of the state, which is kept aside. Nothing is touched unless the copy proves sound.

    Raises ConflictError while workers, a scheduler or a command use the state; BadInput, CorruptLog for a bad backup.
    """
    home.ensure()
    with _alone(home):
        scratch = home.root / f"{SCRATCH}{secrets.token_hex(6)}"
        make_private(scratch)
        try:
            manifest = unpacked(source, scratch)
            verify(scratch, manifest)
            move = _Move(scratch.name, _aside(home), manifest)
            _mark(home, move)
        except BaseException:
            home.restoring.unlink(missing_ok=True)
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        try:
            return _forward(home, move)
        except BaseException:
            _back(home, move)
            raise


def finish(home: Home) -> Restored:
    """Complete a restore that was interrupted. Raises BadInput when none was, or what it would put back is gone."""
    with _alone(home):
        move = _marked(home)
        scratch = home.root / move.scratch
        gone = [one for one in move.manifest.files if not (scratch / one).exists() and not _is_new(home, move, one)]
        if gone:
            raise BadInput(f"{', '.join(gone)} of the backup is not there any more: `lerim restore --roll-back`")
        return _forward(home, move)


def roll_back(home: Home) -> None:
    """Put back what was there before a restore that was interrupted. Raises BadInput when none was."""
    with _alone(home):
        _back(home, _marked(home))


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    running = [*workers_running(home), *schedulers_running(home)]
    if running:
        pids = ", ".join(str(one.pid) for one in running)
        raise ConflictError(
            f"workers or a scheduler are running (pid {pids}): stop them with `lerim down`, then restore"
        )
    # Every worker, scheduler and waiting command shares this lock while it lives; who comes now waits until it is done.
    with exclusive_now(home.run / "redis.users") as alone:
        if not alone:
            raise ConflictError("a command is using the state folder: wait for it to end, then restore")
        yield


def _forward(home: Home, move: _Move) -> Restored:
    scratch, kept = home.root / move.scratch, home.root / move.kept
    make_private(kept)
    for name in sorted({*move.manifest.files, *DATABASES, *_DERIVED}):
        if not _is_new(home, move, name):
            _set_aside(home.root / name, kept)
    for name in move.manifest.files:
        if (scratch / name).exists():
            (scratch / name).replace(home.root / name)
    _unmark(home, scratch)
    return Restored(move.manifest, kept)


def _set_aside(path: Path, kept: Path) -> None:
    """Move a file and its journals, the file last: where it is aside already, nothing that is here belongs to it."""
    is_aside = (kept / path.name).exists()
    for ending in ("-wal", "-shm", ""):
        part = path.with_name(f"{path.name}{ending}")
        if is_aside:
            part.unlink(missing_ok=True)  # somebody was just opening the state when it had gone
        elif part.exists():
            part.replace(kept / part.name)


def _back(home: Home, move: _Move) -> None:
    scratch, kept = home.root / move.scratch, home.root / move.kept
    make_private(scratch)
    for name in move.manifest.files:
        if _is_new(home, move, name):
            (home.root / name).replace(scratch / name)
    for path in sorted(kept.glob("*")):
        path.replace(home.root / path.name)
    _unmark(home, scratch)
    with suppress(OSError):
        kept.rmdir()


def _is_new(home: Home, move: _Move, name: str) -> bool:
    """Whether the file in the state folder is the one that was moved in."""
    path = home.root / name
    if name not in move.manifest.files or (home.root / move.scratch / name).exists() or not path.exists():
        return False
    return file_digest(path) == move.manifest.files[name]


def _aside(home: Home) -> str:
    stamp = (iso(now_ms()) or "").replace(":", "").replace("-", "")
    return str((home.before_restore / f"{stamp}-{secrets.token_hex(2)}").relative_to(home.root))


def _mark(home: Home, move: _Move) -> None:
    partial = home.root / move.scratch / home.restoring.name
    with open(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(msgspec.json.encode(move))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(home.restoring)
    _sync(home.root)


def _unmark(home: Home, scratch: Path) -> None:
    _sync(home.root)
    home.restoring.unlink()
    with suppress(OSError):
        _sync(home.root)
    shutil.rmtree(scratch, ignore_errors=True)


def _marked(home: Home) -> _Move:
    try:
        return msgspec.json.decode(home.restoring.read_bytes(), type=_Move)
    except FileNotFoundError:
        raise BadInput(f"no restore was interrupted in {str(home.root)!r}") from None
    except msgspec.DecodeError as exc:
        raise CorruptLog(
            f"{str(home.restoring)!r} cannot be read: {exc}. What was there is in {str(home.before_restore)!r}"
        ) from exc


def _sync(folder: Path) -> None:
    """Renames in it are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
