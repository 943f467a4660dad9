"""Giving disk space back: free pages of our SQLite files, and log files that grew too large."""

from __future__ import annotations

import os
from pathlib import Path

import apsw

from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.machine.locks import exclusive
from lerim_jobs.sqlite import immediate

__all__ = ["compact", "give_back", "rotate"]

_STEP_PAGES = 1000
_KEPT_PAGES = 500
_INCREMENTAL = 2


def give_back(path: Path) -> int:
    """Cut free pages off a database file in short transactions, while others use it; returns how many bytes.

    Nothing for a file that was made before files could shrink: `compact` changes that. Raises StoreUnavailable.
    """
    if not path.exists():
        return 0
    try:
        db = _opened(path)
        try:
            if db.pragma("auto_vacuum") != _INCREMENTAL:
                return 0
            before = free = db.pragma("freelist_count")
            while free > _KEPT_PAGES:
                with exclusive(Path(f"{path}.lock")), immediate(db):
                    list(db.execute(f"PRAGMA incremental_vacuum({min(_STEP_PAGES, free - _KEPT_PAGES)})"))
                free, last = db.pragma("freelist_count"), free
                if free >= last:
                    break
            given = max(0, before - free) * db.pragma("page_size")
            if given:
                db.pragma("wal_checkpoint")
            return int(given)
        finally:
            db.close()
    except (apsw.Error, OSError) as exc:
        raise StoreUnavailable(f"cannot shrink {str(path)!r}: {exc}") from exc


def compact(path: Path) -> int:
    """Write a database file anew without its gaps; returns how many bytes smaller it is. Nobody else may use it."""
    if not path.exists():
        return 0
    try:
        before = _size_bytes(path)
        db = _opened(path)
        try:
            with exclusive(Path(f"{path}.lock")):
                db.pragma("auto_vacuum", _INCREMENTAL)
                db.execute("VACUUM")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            db.close()
        return before - _size_bytes(path)
    except (apsw.Error, OSError) as exc:
        raise StoreUnavailable(f"cannot compact {str(path)!r}: {exc}") from exc


def rotate(folder: Path, *, max_bytes: int) -> int:
    """Move what stands in log files over the limit to `NAME.log.1`, its newest part; returns how many files.

    The file itself is emptied, not replaced: whoever has it open goes on appending to it.
    """
    rotated = 0
    for path in folder.glob("*.log"):
        try:
            if path.is_symlink() or path.stat().st_size <= max_bytes:
                continue
            with path.open("rb+") as file:
                file.seek(-max_bytes, os.SEEK_END)
                newest = file.read()
                older = path.with_name(f"{path.name}.1")
                with open(os.open(older, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o600), "wb") as kept:
                    kept.write(newest)
                file.truncate(0)
            rotated += 1
        except OSError:
            continue  # gone, or not ours: a log is no reason to fail
    return rotated


def _opened(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    db.set_busy_timeout(30_000)
    return db


def _size_bytes(path: Path) -> int:
    """With the journal, where the newest pages may still be."""
    journal = Path(f"{path}-wal")
    return path.stat().st_size + (journal.stat().st_size if journal.exists() else 0)
