"""Which stages may start: a stage waits for others, and settling one of them touches only those that wait for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from lerim_jobs.jobs import budget, deaths, parking, sums
from lerim_jobs.kinds.shared import FINISH
from lerim_jobs.log.events import JobFinished, JobStatus, StageRequested, StageSkipped
from lerim_jobs.log.store import ALL, Edge, Identified, StageRow, StageState, Tx

__all__ = [
    "LAST",
    "PAUSED",
    "SETTLED",
    "UNCLOSED",
    "edges_of",
    "end_job",
    "job_stream",
    "journal_key",
    "journal_view",
    "plan",
    "settle",
]

LAST = FINISH.name
"""The last stage of every job: its commit ends the job."""

PAUSED = "_paused"
"""Read model: what is paused; its rules are in `pausing.py`."""

UNCLOSED = "_unclosed"
"""Read model: finished jobs whose reserved spans are not emitted yet."""

SETTLED = frozenset({"done", "dead", "skipped"})
_LOST = frozenset({"dead", "skipped"})


def job_stream(job_id: str) -> str:
    """The stream of a job."""
    return f"job-{job_id}"


def plan(tx: Tx, job_id: str, stages: Sequence[StageRequested], *, meta: Mapping[str, Any]) -> list[StageRow]:
    """Add stages to the job's plan and return those that may start now. Raises ConflictError for one that is there."""
    if not stages:
        return []
    events = [Identified(f"{job_id}:{event.stage}:requested", event) for event in stages]
    tx.append(job_stream(job_id), events, meta=meta)
    waiting_for_all = tx.after(job_id, ALL)
    states = _States(tx, job_id, {event.stage for event in stages})
    edges = [edge for event in stages for edge in edges_of(event) if states.of(edge.before) or edge.before == ALL]
    rows = [_row(tx, job_id, event, [edge for edge in edges if edge.after == event.stage], states) for event in stages]
    tx.add_stages(rows, edges)
    for edge in waiting_for_all:
        tx.count_open(job_id, edge.after, len(rows))
    freed = [row for row in rows if row.state == "ready"]
    hopeless = {edge.after: edge.before for edge in edges if edge.needed and states.of(edge.before) in _LOST}
    for name, lost in hopeless.items():
        freed += _skip(tx, job_id, name, because=lost, meta=meta)
    return [row for row in freed if row.stage not in hopeless]


def settle(tx: Tx, row: StageRow, state: StageState, outcome: int, *, meta: Mapping[str, Any]) -> list[StageRow]:
    """Note that the stage is settled, by the event of this version, and return the stages it freed."""
    tx.save_stage(msgspec.structs.replace(row, state=state, owner=None, lease_until_ms=0, outcome=outcome))
    deaths.forget(tx, row)
    return _go_on(tx, row.job_id, row.stage, state, meta=meta)


def end_job(
    tx: Tx, job_id: str, *, status: JobStatus, result: dict[str, Any], error: str | None, meta: Mapping[str, Any]
) -> None:
    """Append the job's end, forget its claim rows, sums and journal, and leave its trace to be closed."""
    finished = JobFinished(status=status, result=result, error=error)
    tx.append(job_stream(job_id), [Identified(f"{job_id}:finished", finished)], meta=meta)
    for row in tx.stages(job_id):
        deaths.forget(tx, row)
        if row.state == "parked":
            parking.forget(tx, job_id, row.stage)
    tx.drop_stages(job_id)
    tx.clear_docs(journal_view(job_id))
    sums.forget(tx, job_id)
    tx.put_doc(PAUSED, f"job/{job_id}", None)
    budget.forget_job(tx, job_id)
    tx.put_doc(UNCLOSED, job_id, b"{}")


def journal_view(job_id: str) -> str:
    """The read model that keeps a running job's model answers for replay."""
    return f"_journal:{job_id}"


def journal_key(stage: str, request_hash: str, occurrence: int) -> str:
    """Where an answer stands in it: attempts of a stage share it, equal requests of one attempt do not."""
    return f"{stage}/{request_hash}/{occurrence}"


class _States:
    """States of a job's stages while some join it, each read once."""

    def __init__(self, tx: Tx, job_id: str, new: Iterable[str]) -> None:
        self._tx, self._job_id = tx, job_id
        self._known: dict[str, StageState | None] = dict.fromkeys(new, "waiting")

    def of(self, stage: str) -> StageState | None:
        """None: there is no such stage, so nothing waits for it."""
        if stage not in self._known:
            row = self._tx.stage(self._job_id, stage) if stage != ALL else None
            self._known[stage] = row.state if row else None
        return self._known[stage]

    def open_besides(self, stage: str) -> int:
        """How many other stages of the job are not settled, new ones included."""
        names = {row.stage: row.state for row in self._tx.stages(self._job_id)} | self._known
        return sum(state is not None and state not in SETTLED for name, state in names.items() if name != stage)


def edges_of(event: StageRequested) -> Iterator[Edge]:
    """What the stage waits for, as it was asked for."""
    needed = dict.fromkeys(event.needs, True)
    for name, is_needed in {**dict.fromkeys(event.after, False), **needed}.items():
        yield Edge(name, event.stage, is_needed)


def _row(tx: Tx, job_id: str, event: StageRequested, edges: Sequence[Edge], states: _States) -> StageRow:
    if any(edge.before == ALL for edge in edges):
        waits = states.open_besides(event.stage)
    else:
        waits = sum(states.of(edge.before) not in SETTLED for edge in edges)
    now = 0 if waits else tx.now_ms()
    return StageRow(
        job_id,
        event.stage,
        event.queue,
        "waiting" if waits else "ready",
        lane=event.lane,
        host=event.host,
        due_ms=now,
        sent_ms=now,
        open_needs=waits,
        input=msgspec.json.encode(event.input),
    )


def _go_on(tx: Tx, job_id: str, stage: str, state: StageState, *, meta: Mapping[str, Any]) -> list[StageRow]:
    freed = []
    for edge in tx.after(job_id, stage):
        row = tx.count_open(job_id, edge.after, -1)
        if row is None or row.state != "waiting":
            continue
        if edge.needed and state in _LOST:
            freed += _skip(tx, job_id, row.stage, because=stage, meta=meta)
        elif row.open_needs == 0:
            now = tx.now_ms()
            freed.append(msgspec.structs.replace(row, state="ready", due_ms=now, sent_ms=now))
            tx.save_stage(freed[-1])
    return freed


def _skip(tx: Tx, job_id: str, stage: str, *, because: str, meta: Mapping[str, Any]) -> list[StageRow]:
    """A stage that can never run any more; those that need it neither."""
    row = tx.stage(job_id, stage)
    if row is None or row.state in SETTLED:
        return []
    # No id of its own: a retry may revive the stage, and it may be skipped again.
    outcome = tx.append(job_stream(job_id), [StageSkipped(stage=stage, reason=f"{because} did not finish")], meta=meta)
    return settle(tx, row, "skipped", outcome, meta=meta)
