"""What all our SQLite files have in common: write transactions, copies, giving disk space back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

__all__ = ["copy_database", "damage", "immediate"]

_BUSY_MS = 30_000


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
