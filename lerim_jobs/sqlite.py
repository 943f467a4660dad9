"""A write transaction on an apsw connection, and files without remains of what was deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import apsw

__all__ = ["immediate", "leave_nothing"]

_WAIT_S = 10.0


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
