"""A write transaction on an apsw connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import apsw

__all__ = ["immediate"]


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
