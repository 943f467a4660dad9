"""Passing everything in the SQLite store through a rewriting, inside one of its write transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.log.sqlite_tx import SELECT_EVENTS, SqliteTx, event_rows
from lerim_jobs.log.store import Rewriting
from lerim_jobs.sqlite import immediate, leave_nothing

__all__ = ["kept_log", "rewrite"]

_BATCH = 1000
_BUSY_MS = 10_000


@contextmanager
def kept_log(path: Path, *, leave_nothing_behind: bool = False) -> Iterator[SqliteTx]:
    """One transaction on a log that no store has open, of whatever schema: it is not brought up to date.

    `leave_nothing_behind`: nothing that was replaced stays in the file. Raises StoreUnavailable.
    """
    try:
        db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            db.set_busy_timeout(_BUSY_MS)
            with immediate(db):
                yield SqliteTx(db)
            if leave_nothing_behind:
                leave_nothing(db)
        finally:
            db.close()
    except apsw.Error as exc:
        raise StoreUnavailable(f"it cannot be changed: {exc}") from exc


def rewrite(tx: SqliteTx, rewriting: Rewriting) -> None:
    """Blobs, events, documents; only what changed is written."""
    rewriting.begin(tx)
    moved = _blobs(tx, rewriting)
    _events(tx, rewriting, moved)
    for view, key in tx.execute("SELECT view, key FROM docs"):
        value = tx.doc(view, key)
        if value is not None and (changed := rewriting.document(view, key, value, moved)) != value:
            tx.put_doc(view, key, changed)
    rewriting.end(tx)


def _blobs(tx: SqliteTx, rewriting: Rewriting) -> dict[str, str]:
    moved: dict[str, str] = {}
    for (old,) in tx.execute("SELECT hash FROM blobs"):
        ((data,),) = tx.execute("SELECT data FROM blobs WHERE hash=?", old)
        if (changed := rewriting.blob(data)) != data:
            moved[old] = tx.put_blob(changed)
            tx.drop_blob(old)
    return moved


def _events(tx: SqliteTx, rewriting: Rewriting, moved: dict[str, str]) -> None:
    position = 0
    while rows := event_rows(
        tx.execute(f"{SELECT_EVENTS} WHERE position>? ORDER BY position LIMIT {_BATCH}", position)
    ):
        position = rows[-1].position
        for row in rows:
            if (changed := rewriting.event(row, moved)) != row.data:
                tx.execute("UPDATE events SET data=? WHERE position=?", changed.decode(), row.position)
