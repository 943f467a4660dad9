"""A write transaction of the SQLite store, and how its rows become values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import apsw
import msgspec

from lerim_jobs.errors import ConflictError
from lerim_jobs.ids import digest
from lerim_jobs.log.codec import Recorded, encode, schema_of
from lerim_jobs.log.events import Event
from lerim_jobs.log.store import ANY, Identified, StageRow

__all__ = ["NOW", "SELECT_EVENTS", "SELECT_STAGES", "SqliteTx", "event_rows", "stage_rows"]

NOW = "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
EVENT_COLUMNS = "position, id, stream, version, type, schema, data, meta, at_ms"
STAGE_COLUMNS = (
    "job_id, stage, queue, state, needs, after, lane, host, attempt, owner, lease_until_ms, due_ms, sent_ms, strikes"
)
SELECT_EVENTS = f"SELECT {EVENT_COLUMNS} FROM events"
SELECT_STAGES = f"SELECT {STAGE_COLUMNS} FROM stages"


class SqliteTx:
    """One exclusive transaction on the calling thread's connection."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    def execute(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        """Run one statement inside the transaction."""
        return list(self._db.execute(sql, args))

    def now_ms(self) -> int:
        return int(self.execute(f"SELECT {NOW}")[0][0])

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
        about = msgspec.json.encode(meta or {}).decode()
        sql = f"INSERT INTO events(id, stream, version, type, schema, data, meta, at_ms) VALUES(?,?,?,?,?,?,?,{NOW})"
        try:
            for item in events:
                version += 1
                event = item.event if isinstance(item, Identified) else item
                event_id = item.id if isinstance(item, Identified) else f"{stream}:{version}"
                name = type(event).__name__
                self._db.execute(sql, (event_id, stream, version, name, schema_of(name), encode(event).decode(), about))
        except apsw.ConstraintError as exc:
            raise ConflictError(f"{stream}: an event with this id or version exists already") from exc
        return version

    def version(self, stream: str) -> int:
        return int(self.execute("SELECT COALESCE(MAX(version), 0) FROM events WHERE stream=?", stream)[0][0])

    def read(self, stream: str, after: int = 0) -> list[Recorded]:
        return event_rows(self.execute(f"{SELECT_EVENTS} WHERE stream=? AND version>? ORDER BY version", stream, after))

    def stage(self, job_id: str, stage: str) -> StageRow | None:
        rows = self.execute(f"{SELECT_STAGES} WHERE job_id=? AND stage=?", job_id, stage)
        return stage_rows(rows)[0] if rows else None

    def stages(self, job_id: str) -> list[StageRow]:
        return stage_rows(self.execute(f"{SELECT_STAGES} WHERE job_id=? ORDER BY seq", job_id))

    def lane(self, lane: str) -> list[StageRow]:
        sql = f"{SELECT_STAGES} WHERE lane=? AND state IN ('ready', 'running') ORDER BY seq"
        return stage_rows(self.execute(sql, lane))

    def save_stage(self, row: StageRow) -> None:
        values = (
            *msgspec.structs.astuple(row)[:4],
            _json(row.needs),
            _json(row.after),
            *msgspec.structs.astuple(row)[6:],
        )
        changes = ", ".join(f"{name}=excluded.{name}" for name in STAGE_COLUMNS.split(", ")[2:])
        marks = ",".join("?" * len(values))
        sql = f"INSERT INTO stages({STAGE_COLUMNS}) VALUES({marks}) ON CONFLICT(job_id, stage) DO UPDATE SET {changes}"
        self.execute(sql, *values)

    def drop_stages(self, job_id: str) -> None:
        self.execute("DELETE FROM stages WHERE job_id=?", job_id)

    def put_blob(self, data: bytes) -> str:
        blob_hash = digest(data)
        self.execute("INSERT OR IGNORE INTO blobs(hash, data) VALUES(?, ?)", blob_hash, data)
        return blob_hash

    def drop_blob(self, blob_hash: str) -> None:
        self.execute("DELETE FROM blobs WHERE hash=?", blob_hash)

    def doc(self, view: str, key: str) -> bytes | None:
        rows = self.execute("SELECT value FROM docs WHERE view=? AND key=?", view, key)
        return rows[0][0] if rows else None

    def put_doc(self, view: str, key: str, value: bytes | None) -> None:
        if value is None:
            self.execute("DELETE FROM docs WHERE view=? AND key=?", view, key)
        else:
            self.execute("INSERT OR REPLACE INTO docs(view, key, value) VALUES(?,?,?)", view, key, value)

    def clear_docs(self, view: str) -> None:
        self.execute("DELETE FROM docs WHERE view=?", view)


def _json(value: list[str]) -> str:
    return msgspec.json.encode(value).decode()


def event_rows(rows: list[tuple[Any, ...]]) -> list[Recorded]:
    """Rows of EVENT_COLUMNS as recorded events."""
    return [
        Recorded(position, event_id, stream, version, name, schema, data.encode(), msgspec.json.decode(meta), at_ms)
        for position, event_id, stream, version, name, schema, data, meta, at_ms in rows
    ]


def stage_rows(rows: list[tuple[Any, ...]]) -> list[StageRow]:
    """Rows of STAGE_COLUMNS as claim rows."""
    return [StageRow(*row[:4], *map(msgspec.json.decode, row[4:6]), *row[6:]) for row in rows]
