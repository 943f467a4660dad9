"""The local span store: what every process of this machine recorded, in one SQLite file for `lerim trace`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import apsw
import msgspec

from lerim_jobs import faults
from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.sqlite import immediate, leave_nothing, open_wal
from lerim_jobs.tracing.names import JOB_ID
from lerim_jobs.tracing.skeleton.record import SpanRecord

__all__ = ["SpanStore"]

_DDL = """
CREATE TABLE IF NOT EXISTS spans(
  trace TEXT NOT NULL, span TEXT NOT NULL, parent TEXT, name TEXT NOT NULL, kind TEXT NOT NULL,
  start INTEGER NOT NULL, "end" INTEGER, status TEXT NOT NULL, job TEXT, data BLOB NOT NULL,
  PRIMARY KEY(trace, span)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS spans_by_job ON spans(job, start);
CREATE TABLE IF NOT EXISTS sent(trace TEXT NOT NULL, span TEXT NOT NULL, PRIMARY KEY(trace, span)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS spans_by_start ON spans(start);
"""
_MAX_INTEGER = 2**63 - 1
_BUSY_MS = 10_000

_encoder = msgspec.json.Encoder(enc_hook=str)
_decoder = msgspec.json.Decoder(SpanRecord)


class SpanStore:
    """Made on first `put`; reading a file that is not there finds nothing. Safe across threads and forks.

    A span that is put again replaces the one with its ids. Every method raises StoreUnavailable and nothing else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()

    def put(self, spans: Iterable[SpanRecord], wait_s: float = _BUSY_MS / 1000) -> None:
        """Store all or none; another process may keep the file locked for so long."""
        rows = [_row(span) for span in spans]
        try:
            db = self._db()
            db.set_busy_timeout(max(0, int(wait_s * 1000)))
            with immediate(db):
                db.executemany("INSERT OR REPLACE INTO spans VALUES(?,?,?,?,?,?,?,?,?,?)", rows)
                if faults.armed(faults.DISK_FULL):
                    raise apsw.FullError("database or disk is full")
        except (apsw.Error, OSError) as exc:
            raise StoreUnavailable(f"cannot write spans to {str(self._path)!r}: {exc}") from exc

    def mark_sent(self, ids: Iterable[tuple[str, str]]) -> None:
        """Remember (trace id, span id) pairs that a remote receiver took."""
        try:
            db = self._db()
            with immediate(db):
                db.executemany("INSERT OR IGNORE INTO sent VALUES(?,?)", ids)
        except (apsw.Error, OSError) as exc:
            raise StoreUnavailable(f"cannot write spans to {str(self._path)!r}: {exc}") from exc

    def sent(self, trace_id: str) -> set[str]:
        """Span ids of the trace that a remote receiver took."""
        if not self._path.exists():
            return set()
        try:
            return {span for (span,) in self._db().execute("SELECT span FROM sent WHERE trace = ?", (trace_id,))}
        except (apsw.Error, OSError) as exc:
            raise StoreUnavailable(f"cannot read spans from {str(self._path)!r}: {exc}") from exc

    def sent_of(self, ids: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of the (trace id, span id) pairs that a remote receiver took."""
        if not self._path.exists():
            return set()
        look_up = "SELECT 1 FROM sent WHERE trace = ? AND span = ?"
        try:
            db = self._db()
            return {one for one in ids if db.execute(look_up, one).fetchone()}
        except (apsw.Error, OSError) as exc:
            raise StoreUnavailable(f"cannot read spans from {str(self._path)!r}: {exc}") from exc

    def of_trace(self, trace_id: str) -> list[SpanRecord]:
        """The trace's spans by start time."""
        return list(self._read("SELECT data FROM spans WHERE trace = ? ORDER BY start, span", trace_id))

    def of_job(self, job_id: str) -> list[SpanRecord]:
        """The job's spans by start time."""
        return list(self._read("SELECT data FROM spans WHERE job = ? ORDER BY start, span", job_id))

    def prune(self, before_ns: int) -> int:
        """Forget spans that started before; returns how many."""
        if not self._path.exists():
            return 0
        try:
            db = self._db()
            db.execute("DELETE FROM spans WHERE start < ?", (min(before_ns, _MAX_INTEGER),))
            pruned = db.changes()
            db.execute("DELETE FROM sent WHERE trace NOT IN (SELECT DISTINCT trace FROM spans)")
            return pruned
        except (apsw.Error, OSError) as exc:
            raise StoreUnavailable(f"cannot prune spans in {str(self._path)!r}: {exc}") from exc

    def rewrite(self, change: Callable[[SpanRecord], SpanRecord]) -> int:
        """Change spans in one transaction and leave nothing of what they were in the file; returns how many changed."""
        if not self._path.exists():
            return 0
        changed = 0
        try:
            db = self._db()
            with immediate(db):
                for trace, span in list(db.execute("SELECT trace, span FROM spans")):
                    ((data,),) = db.execute("SELECT data FROM spans WHERE trace = ? AND span = ?", (trace, span))
                    before = _decoder.decode(data)
                    if (after := change(before)) != before:
                        db.execute("INSERT OR REPLACE INTO spans VALUES(?,?,?,?,?,?,?,?,?,?)", _row(after))
                        changed += 1
            leave_nothing(db)
        except (apsw.Error, OSError, msgspec.DecodeError) as exc:
            raise StoreUnavailable(f"cannot change spans in {str(self._path)!r}: {exc}") from exc
        return changed

    def close(self) -> None:
        """Close this thread's connection."""
        if db := self._local.__dict__.pop("db", None):
            db.close()

    def _read(self, query: str, key: str) -> Iterator[SpanRecord]:
        if not self._path.exists():
            return
        try:
            for (data,) in self._db().execute(query, (key,)):
                yield _decoder.decode(data)
        except (apsw.Error, OSError, msgspec.DecodeError) as exc:
            raise StoreUnavailable(f"cannot read spans from {str(self._path)!r}: {exc}") from exc

    def _db(self) -> apsw.Connection:
        local = self._local
        if getattr(local, "pid", None) != os.getpid():
            # A connection must not cross a fork, and closing it here would drop the parent's locks: keep it unused.
            local.inherited = local.__dict__.pop("db", None)
        if getattr(local, "db", None) is None:
            db = open_wal(self._path, busy_ms=_BUSY_MS, synchronous="normal")
            db.execute(_DDL)
            local.db, local.pid = db, os.getpid()
        connection: apsw.Connection = local.db
        return connection


def _row(span: SpanRecord) -> tuple[str | int | bytes | None, ...]:
    job = span.attributes.get(JOB_ID)
    return (
        span.trace_id,
        span.span_id,
        span.parent_span_id,
        span.name,
        span.kind,
        span.start_ns,
        span.end_ns,
        span.status,
        job if isinstance(job, str) else None,
        _encoder.encode(span),
    )
