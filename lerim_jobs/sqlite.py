"""SQLite as all our files use it: opening in WAL mode, write transactions, copies, files without remains of what was deleted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

__all__ = ["copy_database", "damage", "immediate", "leave_nothing", "open_wal"]

_WAIT_S = 10.0
_BUSY_MS = 30_000


def open_wal(path: Path, *, busy_ms: int, synchronous: str) -> apsw.Connection:
    """Open or make the file, for its owner alone. Raises apsw.Error and OSError."""
    # Made by us, so that SQLite gives its companions the same mode. Never opened again beside SQLite: closing it would drop
    # the locks that other connections of this process hold.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    db = apsw.Connection(str(path))
    db.set_busy_timeout(busy_ms)
    deadline = time.monotonic() + busy_ms / 1000
    while True:
        # Two processes that open a new file at once: SQLite tells one of them "locked" without waiting.
        try:
            if db.pragma("journal_mode") == "wal":
                break
            db.pragma("auto_vacuum", 2)  # counts only in a file that is still empty; retention makes it smaller
            if db.pragma("journal_mode", "wal") == "wal":
                break
        except apsw.BusyError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.01)
    db.pragma("synchronous", synchronous)
    return db


@contextmanager
def immediate(db: apsw.Connection) -> Iterator[None]:
    """BEGIN IMMEDIATE, then COMMIT; any exception rolls back.

    Not `with db:`: that one keeps the interpreter lock while it waits for another writer. Where the other writer is a thread
    of the same process it can never finish, and everything stands still until the busy time-out.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(apsw.Error):
            db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def leave_nothing(db: apsw.Connection) -> bool:
    """Write the file anew without free pages and empty its WAL. False: somebody read all the time, so the WAL is still there."""
    db.execute("VACUUM")
    end = time.monotonic() + _WAIT_S
    while True:
        ((busy, _, _),) = db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if not busy or time.monotonic() > end:
            return not busy
        time.sleep(0.05)


def copy_database(source: Path, target: Path) -> None:
    """A copy as of one moment, mode 0600, also while others write: SQLite's backup in a single step.

    The copy is one file without a journal beside it; a target that exists is replaced. Raises apsw.Error, OSError.
    """
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    reading, writing = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE), apsw.Connection(str(partial))
    try:
        reading.set_busy_timeout(_BUSY_MS)
        with writing.backup("main", reading, "main") as backup:
            backup.step(-1)
        writing.pragma("journal_mode", "delete")
    finally:
        writing.close()
        reading.close()
    partial.replace(target)


def damage(path: Path, *, thorough: bool) -> str | None:
    """What SQLite finds wrong with a file; None: nothing. `thorough` also compares every index with its table."""
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.set_busy_timeout(_BUSY_MS)
            found = [row for (row,) in db.execute(f"PRAGMA {'integrity_check' if thorough else 'quick_check'}(5)")]
        finally:
            db.close()
    except apsw.Error as exc:
        return str(exc)
    return None if found == ["ok"] else "; ".join(map(str, found))
