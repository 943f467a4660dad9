"""A write transaction of the SQLite store, and how its rows become values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import apsw
import msgspec

from lerim_jobs.clock import now_ms
from lerim_jobs.errors import ConflictError, CorruptLog
from lerim_jobs.ids import digest
from lerim_jobs.log.codec import Recorded, encode_checked, schema_of
from lerim_jobs.log.events import Event
from lerim_jobs.log.sqlite_stages import StageTable
from lerim_jobs.log.store import ANY, Edge, Identified, StageRow

__all__ = ["SELECT_EVENTS", "SqliteTx", "blob", "event_rows", "read_all"]

EVENT_COLUMNS = "position, id, stream, version, type, schema, data, meta, at_ms"
SELECT_EVENTS = f"SELECT {EVENT_COLUMNS} FROM events"


class SqliteTx:
    """One exclusive transaction on the calling thread's connection."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._stages = StageTable(self.execute)
        self._now_ms: int | None = None

    def execute(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """Run one statement inside the transaction."""
        return list(self._db.execute(sql, args))

    def now_ms(self) -> int:
        # One transaction is one moment.
        if self._now_ms is None:
            self._now_ms = now_ms()
        return self._now_ms

    def append(
        self,
        stream: str,
        events: Sequence[Event | Identified],
        *,
        expected: int = ANY,
        meta: Mapping[str, Any] | None = None,
    ) -> int:
        version = self.version(stream)
        if expected not in (ANY, version):
            raise ConflictError(f"{stream}: expected version {expected}, it is at {version}")
        about, at_ms = msgspec.json.encode(meta or {}).decode(), self.now_ms()
        named = [item if isinstance(item, Identified) else Identified("", item) for item in events]
        rows = [(item.id, type(item.event).__name__, encode_checked(item.event).decode()) for item in named]
        sql = "INSERT INTO events(id, stream, version, type, schema, data, meta, at_ms) VALUES(?,?,?,?,?,?,?,?)"
        try:
            for event_id, name, data in rows:
                version += 1
                about_it = (event_id or f"{stream}:{version}", stream, version, name, schema_of(name))
                self._db.execute(sql, (*about_it, data, about, at_ms))
        except apsw.ConstraintError as exc:
            raise ConflictError(f"{stream}: an event with this id or version exists already") from exc
        return version

    def version(self, stream: str) -> int:
        return int(self.execute("SELECT COALESCE(MAX(version), 0) FROM events WHERE stream=?", stream)[0][0])

    def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Recorded]:
        sql = f"{SELECT_EVENTS} WHERE stream=? AND version>? ORDER BY version LIMIT ?"
        return event_rows(self.execute(sql, stream, after, -1 if limit is None else limit))

    def read_all(self, after: int = 0, limit: int = 1000, types: Sequence[str] | None = None) -> list[Recorded]:
        return read_all(self.execute, after, limit, types)

    def stage(self, job_id: str, stage: str) -> StageRow | None:
        return self._stages.one(job_id, stage)

    def stages(self, job_id: str, name: str | None = None) -> list[StageRow]:
        return self._stages.of_job(job_id, name)

    def has_stages(self, job_id: str) -> bool:
        return self._stages.any_of_job(job_id)

    def open_jobs(self) -> list[str]:
        return self._stages.open_jobs()

    def lane(self, lane: str) -> list[StageRow]:
        return self._stages.of_lane(lane)

    def add_stages(self, rows: Sequence[StageRow], edges: Sequence[Edge]) -> None:
        self._stages.add(rows, edges)

    def save_stage(self, row: StageRow) -> None:
        self._stages.save(row)

    def after(self, job_id: str, stage: str) -> list[Edge]:
        return self._stages.after(job_id, stage)

    def before(self, job_id: str, stage: str) -> list[Edge]:
        return self._stages.before(job_id, stage)

    def count_open(self, job_id: str, stage: str, by: int) -> StageRow | None:
        return self._stages.count_open(job_id, stage, by)

    def drop_stages(self, job_id: str) -> None:
        self._stages.drop(job_id)

    def put_blob(self, data: bytes) -> str:
        blob_hash = digest(data)
        self.execute("INSERT OR IGNORE INTO blobs(hash, data) VALUES(?, ?)", blob_hash, data)
        return blob_hash

    def blob(self, blob_hash: str) -> bytes:
        return blob(self.execute, blob_hash)

    def drop_blob(self, blob_hash: str) -> None:
        self.execute("DELETE FROM blobs WHERE hash=?", blob_hash)

    def doc(self, view: str, key: str) -> bytes | None:
        rows = self.execute("SELECT value FROM docs WHERE view=? AND key=?", view, key)
        return rows[0][0] if rows else None

    def docs(self, view: str) -> list[tuple[str, bytes]]:
        return [
            (key, value) for key, value in self.execute("SELECT key, value FROM docs WHERE view=? ORDER BY key", view)
        ]

    def has_doc(self, view: str, keys: Sequence[str]) -> bool:
        marks = ",".join("?" * len(keys))
        return bool(self.execute(f"SELECT 1 FROM docs WHERE view=? AND key IN ({marks}) LIMIT 1", view, *keys))

    def put_doc(self, view: str, key: str, value: bytes | None) -> None:
        if value is None:
            self.execute("DELETE FROM docs WHERE view=? AND key=?", view, key)
        else:
            self.execute("INSERT OR REPLACE INTO docs(view, key, value) VALUES(?,?,?)", view, key, value)

    def clear_docs(self, view: str) -> None:
        self.execute("DELETE FROM docs WHERE view=?", view)


def blob(query: Callable[..., list[tuple[Any, ...]]], blob_hash: str) -> bytes:
    """The bytes of a blob. Raises CorruptLog."""
    rows = query("SELECT data FROM blobs WHERE hash=?", blob_hash)
    if not rows:
        raise CorruptLog(f"blob {blob_hash} is not in the log")
    data: bytes = rows[0][0]
    return data


def event_rows(rows: list[tuple[Any, ...]]) -> list[Recorded]:
    """Rows of EVENT_COLUMNS as recorded events."""
    return [
        Recorded(position, event_id, stream, version, name, schema, data.encode(), msgspec.json.decode(meta), at_ms)
        for position, event_id, stream, version, name, schema, data, meta, at_ms in rows
    ]


def read_all(
    query: Callable[..., list[tuple[Any, ...]]], after: int, limit: int, types: Sequence[str] | None
) -> list[Recorded]:
    """Events of all streams with position > after, in order; `types` keeps only these."""
    if types is None:
        return event_rows(query(f"{SELECT_EVENTS} WHERE position>? ORDER BY position LIMIT ?", after, limit))
    marks = ",".join("?" * len(types))
    sql = f"{SELECT_EVENTS} WHERE type IN ({marks}) AND position>? AND position<=? ORDER BY position LIMIT ?"
    # A stretch at a time: without its end SQLite would sort all that follows for each batch. Where few events are of
    # these types the stretches soon get long.
    rows: list[tuple[Any, ...]] = []
    stretch, top = limit * 4, int(query("SELECT COALESCE(MAX(position), 0) FROM events")[0][0])
    while after < top and len(rows) < limit:
        end = min(top, after + stretch)
        rows += query(sql, *types, after, end, limit - len(rows))
        after, stretch = end, stretch * 4
    return event_rows(rows)
