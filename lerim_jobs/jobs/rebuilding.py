"""Claim rows, edges and sums of unfinished jobs, made anew from their events.

What only the rows know stays where a stage stands as it stood: who holds it and until when, and when its hint was sent. All else
is what the events say, so a row that was lost or changed comes back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from lerim_jobs.errors import CorruptLog
from lerim_jobs.jobs import sums
from lerim_jobs.jobs.claims import LEASE_MS
from lerim_jobs.jobs.parking import is_parked
from lerim_jobs.jobs.retry import WITHOUT_A_STRIKE
from lerim_jobs.jobs.settlement import SETTLED, edges_of, job_stream
from lerim_jobs.kinds.kind import project_of
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    JobFinished,
    StageCompleted,
    StageFailed,
    StageQuarantined,
    StageRequested,
    StageRetried,
    StageSkipped,
    StageStarted,
)
from lerim_jobs.log.scan import readable
from lerim_jobs.log.store import ALL, Edge, StageRow, Tx

__all__ = ["rebuild_claims", "rebuild_job"]

_OPEN = ("JobRequested", "JobFinished")
_PAGE = 10_000


def rebuild_claims(tx: Tx) -> list[str]:
    """Make the rows of all unfinished jobs anew and return the jobs whose rows are other ones now."""
    return [job_id for job_id in sorted({*_unfinished(tx), *tx.open_jobs()}) if rebuild_job(tx, job_id)]


def rebuild_job(tx: Tx, job_id: str) -> bool:
    """Make one job's rows anew; whether they are other ones now."""
    events = tx.read(job_stream(job_id))
    before = tx.stages(job_id), {row.stage: sorted(tx.before(job_id, row.stage)) for row in tx.stages(job_id)}
    counted = sums.of(tx, job_id)
    tx.drop_stages(job_id)
    sums.forget(tx, job_id)
    if not events or any(row.type == JobFinished.__name__ for row in events):
        return before != ([], {})
    made = _Rows(tx, job_id, events)
    kept = {row.stage: row for row in before[0]}
    rows = [_with_what_it_knew(row, kept.get(row.stage)) for row in made.rows.values()]
    tx.add_stages(rows, made.edges)
    after = rows, {row.stage: sorted(tx.before(job_id, row.stage)) for row in rows}
    return before != after or counted != sums.of(tx, job_id)


def _unfinished(tx: Tx) -> list[str]:
    jobs: dict[str, None] = {}
    position = 0
    while rows := tx.read_all(position, _PAGE, _OPEN):
        position = rows[-1].position
        for row in rows:
            job_id = row.stream.removeprefix("job-")
            if row.type == JobFinished.__name__:
                jobs.pop(job_id, None)
            else:
                jobs[job_id] = None
    return list(jobs)


class _Rows:
    """A fold of a job's events into its rows."""

    def __init__(self, tx: Tx, job_id: str, events: Iterable[Recorded]) -> None:
        self._tx, self._job_id = tx, job_id
        self.rows: dict[str, StageRow] = {}
        self._wanted: list[Edge] = []
        self._settled_ms: dict[str, int] = {}
        for row in readable(events):  # one bad row keeps no job from its end
            self._apply(row)
        self.edges = [edge for edge in self._wanted if edge.before == ALL or edge.before in self.rows]
        self._count_open()

    def _apply(self, row: Recorded) -> None:
        event = row.event
        if isinstance(event, StageRequested):
            self._request(event, row.at_ms)
        if getattr(event, "stage", None) not in self.rows:
            return
        match event:
            case StageStarted():
                strikes = self.rows[event.stage].strikes + 1
                begun = {"attempt": event.attempt, "owner": event.worker, "strikes": strikes, "due_ms": event.ready_ms}
                self._change(event.stage, state="running", lease_until_ms=row.at_ms + LEASE_MS, **begun)
            case StageCompleted():
                self._settle(event.stage, "done", row)
                self._add_up(event)
            case StageFailed():
                self._fail(event, row.at_ms)
            case StageQuarantined():
                self._settle(event.stage, "dead", row)
            case StageSkipped():
                self._settle(event.stage, "skipped", row)
            case StageRetried():
                again = {"outcome": None, "due_ms": row.at_ms, "sent_ms": row.at_ms}
                self._change(event.stage, state="ready", strikes=0, **again)
                for name in event.revived:
                    self._change(name, state="waiting", outcome=None)
            case _:
                pass

    def _request(self, event: StageRequested, at_ms: int) -> None:
        given = msgspec.json.encode(event.input)
        self.rows[event.stage] = StageRow(
            self._job_id, event.stage, event.queue, "waiting", lane=event.lane, host=event.host, input=given
        )
        self._settled_ms[event.stage] = at_ms
        self._wanted += edges_of(event)

    def _fail(self, event: StageFailed, at_ms: int) -> None:
        strikes = self.rows[event.stage].strikes - (event.code in WITHOUT_A_STRIKE)
        free = {"owner": None, "lease_until_ms": 0, "strikes": strikes}
        if event.code == "parked" and is_parked(self._tx, self._job_id, event.stage):
            self._change(event.stage, state="parked", due_ms=0, sent_ms=0, **free)
        elif event.retry_at_ms is not None or event.code == "parked":
            # What a parked stage waits for is known nowhere but beside its row: without that it finds out again.
            due_ms = at_ms if event.retry_at_ms is None or event.code == "parked" else event.retry_at_ms
            self._change(event.stage, state="ready", due_ms=due_ms, sent_ms=due_ms, **free)

    def _settle(self, stage: str, state: str, row: Recorded) -> None:
        self._settled_ms[stage] = row.at_ms
        self._change(stage, state=state, owner=None, lease_until_ms=0, outcome=row.version)

    def _change(self, stage: str, **changes: Any) -> None:
        self.rows[stage] = msgspec.structs.replace(self.rows[stage], **changes)

    def _add_up(self, event: StageCompleted) -> None:
        output = event.output
        if event.output_blob is not None:
            try:
                output = msgspec.json.decode(self._tx.blob(event.output_blob), type=dict[str, Any])
            except CorruptLog:
                return  # its numbers are lost with it; the job goes on
        about = project_of(msgspec.json.decode(self.rows[event.stage].input))
        sums.add(self._tx, self._job_id, event.stage, output, project_id=about)

    def _count_open(self) -> None:
        """What each waits for; what waits for nothing any more could have run since the last of it was settled."""
        before: dict[str, set[str]] = {name: set() for name in self.rows}
        for edge in self.edges:
            before[edge.after] |= self.rows.keys() - {edge.after} if edge.before == ALL else {edge.before}
        for name, row in self.rows.items():
            waits = sum(self.rows[one].state not in SETTLED for one in before[name])
            row = msgspec.structs.replace(row, open_needs=waits)
            if row.state == "waiting" and not waits:
                since = max((self._settled_ms[one] for one in before[name]), default=self._settled_ms[name])
                row = msgspec.structs.replace(row, state="ready", due_ms=since, sent_ms=since)
            self.rows[name] = row


def _with_what_it_knew(row: StageRow, old: StageRow | None) -> StageRow:
    if old is None or (old.state, old.attempt, old.owner) != (row.state, row.attempt, row.owner):
        return row
    return msgspec.structs.replace(
        row, lease_until_ms=old.lease_until_ms, due_ms=old.due_ms, sent_ms=old.sent_ms, strikes=old.strikes
    )
