"""Claim rows and their edges in SQLite: the same questions inside a write transaction and outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import apsw

from lerim_jobs.clock import now_ms
from lerim_jobs.errors import ConflictError
from lerim_jobs.log.store import ALL, Edge, StageCount, StageRow, StageState

__all__ = ["STAGES_DDL", "StageTable"]

STAGES_DDL = """
CREATE TABLE IF NOT EXISTS stages(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  job_id TEXT NOT NULL, stage TEXT NOT NULL, queue TEXT NOT NULL, state TEXT NOT NULL, lane TEXT, host TEXT,
  attempt INTEGER NOT NULL, owner TEXT, lease_until_ms INTEGER NOT NULL, due_ms INTEGER NOT NULL,
  sent_ms INTEGER NOT NULL, strikes INTEGER NOT NULL, open_needs INTEGER NOT NULL, outcome INTEGER, input BLOB NOT NULL,
  UNIQUE(job_id, stage));
CREATE INDEX IF NOT EXISTS stages_ready ON stages(queue, sent_ms, job_id, stage, due_ms) WHERE state = 'ready';
CREATE INDEX IF NOT EXISTS stages_running ON stages(lease_until_ms) WHERE state = 'running';
CREATE INDEX IF NOT EXISTS stages_by_lane ON stages(lane, seq) WHERE lane IS NOT NULL;
CREATE TABLE IF NOT EXISTS edges(
  job_id TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, needed INTEGER NOT NULL,
  PRIMARY KEY(job_id, before, after)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS edges_by_after ON edges(job_id, after);
"""
_COLUMNS = (
    "job_id, stage, queue, state, lane, host, attempt, owner, lease_until_ms, due_ms, sent_ms, strikes, open_needs, "
    "outcome, input"
)
_FIXED = 2
"""A row keeps its key, the first two columns, and its input, the last."""
_SELECT = f"SELECT {_COLUMNS} FROM stages"
_INSERT = f"INSERT INTO stages({_COLUMNS}) VALUES({','.join('?' * len(_COLUMNS.split(', ')))})"
_CHANGES = ", ".join(f"{name}=?" for name in _COLUMNS.split(", ")[_FIXED:-1])


class StageTable:
    """`query` runs one statement and gives its rows."""

    def __init__(self, query: Callable[..., list[tuple[Any, ...]]]) -> None:
        self._query = query

    def _rows(self, rest: str, *args: Any) -> list[StageRow]:
        return [StageRow(*row) for row in self._query(f"{_SELECT} {rest}", *args)]

    def one(self, job_id: str, stage: str) -> StageRow | None:
        """The row of a stage."""
        rows = self._rows("WHERE job_id=? AND stage=?", job_id, stage)
        return rows[0] if rows else None

    def of_job(self, job_id: str, name: str | None = None) -> list[StageRow]:
        """The rows of a job, or of one family, in the order they were added."""
        if name is None:
            return self._rows("WHERE job_id=? ORDER BY seq", job_id)
        some = "WHERE job_id=? AND (stage=? OR stage > ? AND stage < ?) ORDER BY seq"
        return self._rows(some, job_id, name, f"{name}:", f"{name};")

    def any_of_job(self, job_id: str) -> bool:
        """Whether the job has rows."""
        return bool(self._query("SELECT 1 FROM stages WHERE job_id=? LIMIT 1", job_id))

    def open_jobs(self) -> list[str]:
        """Jobs that have rows."""
        return [job_id for (job_id,) in self._query("SELECT DISTINCT job_id FROM stages ORDER BY job_id")]

    def of_lane(self, lane: str) -> list[StageRow]:
        """Ready and running rows of a lane."""
        return self._rows("WHERE lane=? AND state IN ('ready', 'running') ORDER BY seq", lane)

    def running(self) -> list[StageRow]:
        """All rows somebody runs."""
        return self._rows("WHERE state='running' ORDER BY lease_until_ms")

    def ready(
        self, queue: str, *, sent_before_ms: int, limit: int, after: tuple[int, str, str] = (-1, "", "")
    ) -> list[StageRow]:
        """Ready and due rows of a queue by when they were sent, a page of them."""
        page = "WHERE state='ready' AND queue=? AND sent_ms<? AND due_ms<=?"
        order = "ORDER BY sent_ms, job_id, stage LIMIT ?"
        return self._rows(
            f"{page} AND (sent_ms, job_id, stage) > (?, ?, ?) {order}", queue, sent_before_ms, now_ms(), *after, limit
        )

    def far(self, due_after_ms: int) -> list[StageRow]:
        """Ready rows that are due only behind a time."""
        return self._rows("WHERE state='ready' AND (due_ms>? OR sent_ms>?)", due_after_ms, due_after_ms)

    def counts(self, job_id: str | None = None, state: StageState | None = None) -> list[StageCount]:
        """Rows by queue, state and whether they are due."""
        # The state stands in the statement itself: only then are the indexes of one state of use.
        states = "" if state is None else f" AND state='{state}'"
        job = "1" if job_id is None else "job_id=?"
        sql = f"SELECT queue, state, due_ms<=?, COUNT(*) FROM stages WHERE {job}{states} GROUP BY 1, 2, 3"
        found = self._query(sql, now_ms(), *([] if job_id is None else [job_id]))
        return [StageCount(queue, state, bool(due), count) for queue, state, due, count in found]

    def add(self, rows: Sequence[StageRow], edges: Sequence[Edge]) -> None:
        """Insert rows of one job and its edges."""
        try:
            for row in rows:
                self._query(_INSERT, *_values(row))
        except apsw.ConstraintError as exc:
            raise ConflictError(f"a stage of job {rows[0].job_id!r} exists already") from exc
        for edge in edges:
            self._query("INSERT OR IGNORE INTO edges VALUES(?,?,?,?)", rows[0].job_id, *edge)

    def save(self, row: StageRow) -> None:
        """Change what may change of a row."""
        values = _values(row)
        self._query(f"UPDATE stages SET {_CHANGES} WHERE job_id=? AND stage=?", *values[_FIXED:-1], *values[:_FIXED])

    def count_open(self, job_id: str, stage: str, by: int) -> StageRow | None:
        """Change how many stages a row waits for."""
        sql = f"UPDATE stages SET open_needs=open_needs+? WHERE job_id=? AND stage=? RETURNING {_COLUMNS}"
        rows = self._query(sql, by, job_id, stage)
        return StageRow(*rows[0]) if rows else None

    def after(self, job_id: str, stage: str) -> list[Edge]:
        """Edges that begin at the stage."""
        sql = "SELECT before, after, needed FROM edges WHERE job_id=? AND before IN (?, ?) AND after<>?"
        return [_edge(row) for row in self._query(sql, job_id, stage, ALL, stage)]

    def before(self, job_id: str, stage: str) -> list[Edge]:
        """Edges that end at the stage."""
        sql = "SELECT before, after, needed FROM edges WHERE job_id=? AND after=?"
        return [_edge(row) for row in self._query(sql, job_id, stage)]

    def drop(self, job_id: str) -> None:
        """Delete a job's rows and edges."""
        self._query("DELETE FROM stages WHERE job_id=?", job_id)
        self._query("DELETE FROM edges WHERE job_id=?", job_id)


def _edge(row: tuple[Any, ...]) -> Edge:
    return Edge(row[0], row[1], bool(row[2]))


def _values(row: StageRow) -> tuple[Any, ...]:
    return (
        row.job_id,
        row.stage,
        row.queue,
        row.state,
        row.lane,
        row.host,
        row.attempt,
        row.owner,
        row.lease_until_ms,
        row.due_ms,
        row.sent_ms,
        row.strikes,
        row.open_needs,
        row.outcome,
        row.input,
    )
