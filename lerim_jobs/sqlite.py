"""SQLite as all our files use it: opening in WAL mode, write transactions, files without remains of what was deleted."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

__all__ = ["immediate", "leave_nothing", "open_wal"]

_WAIT_S = 10.0


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
            if db.pragma("journal_mode") == "wal" or db.pragma("journal_mode", "wal") == "wal":
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
