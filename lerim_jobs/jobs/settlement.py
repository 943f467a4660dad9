"""Which stages may start: the plan of a job is a graph of needs, and settling one stage frees or skips others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from lerim_jobs.errors import ConflictError
from lerim_jobs.jobs import budget, deaths
from lerim_jobs.log.events import JobFinished, JobStatus, StageRequested, StageSkipped
from lerim_jobs.log.store import Identified, StageRow, Tx

__all__ = ["FINISH", "PAUSED", "UNCLOSED", "advance", "end_job", "job_stream", "journal_view", "plan"]

FINISH = "finish"
"""The last stage of every job: it counts, and its commit ends the job."""

PAUSED = "_paused"
"""Read model: what is paused; its rules are in `pausing.py`."""

UNCLOSED = "_unclosed"
"""Read model: finished jobs whose reserved spans are not emitted yet."""

_SETTLED = {"done", "dead", "skipped"}


def job_stream(job_id: str) -> str:
    """The stream of a job."""
    return f"job-{job_id}"


def plan(tx: Tx, job_id: str, stages: Iterable[StageRequested], *, meta: Mapping[str, Any]) -> list[StageRow]:
    """Add stages to the job's plan and return those that may start now."""
    for event in stages:
        if tx.stage(job_id, event.stage):
            raise ConflictError(f"stage {event.stage!r} of job {job_id!r} exists already")
        tx.append(job_stream(job_id), [Identified(f"{job_id}:{event.stage}:requested", event)], meta=meta)
        row = StageRow(
            job_id,
            event.stage,
            event.queue,
            "waiting",
            needs=event.needs,
            after=event.after,
            lane=event.lane,
            host=event.host,
        )
        tx.save_stage(row)
    return advance(tx, job_id, meta=meta)


def advance(tx: Tx, job_id: str, *, meta: Mapping[str, Any]) -> list[StageRow]:
    """Skip what can never run, free what may start, and return the freed stages."""
    rows = {row.stage: row for row in tx.stages(job_id)}
    _skip_hopeless(tx, job_id, rows, meta)
    now = tx.now_ms()
    freed = []
    for row in list(rows.values()):
        if row.state == "waiting" and all(rows[name].state in _SETTLED for name in _waits_for(row, rows)):
            freed.append(msgspec.structs.replace(row, state="ready", due_ms=now, sent_ms=now))
            tx.save_stage(freed[-1])
    return freed


def end_job(
    tx: Tx, job_id: str, *, status: JobStatus, result: dict[str, Any], error: str | None, meta: Mapping[str, Any]
) -> None:
    """Append the job's end, forget its claim rows and journal, and leave its trace to be closed."""
    finished = JobFinished(status=status, result=result, error=error)
    tx.append(job_stream(job_id), [Identified(f"{job_id}:finished", finished)], meta=meta)
    for row in tx.stages(job_id):
        deaths.forget(tx, row)
    tx.drop_stages(job_id)
    tx.clear_docs(journal_view(job_id))
    tx.put_doc(PAUSED, f"job/{job_id}", None)
    budget.forget_job(tx, job_id)
    tx.put_doc(UNCLOSED, job_id, b"{}")


def journal_view(job_id: str) -> str:
    """The read model that keeps a running job's model answers for replay."""
    return f"_journal:{job_id}"


def _waits_for(row: StageRow, rows: Mapping[str, StageRow]) -> Sequence[str]:
    if row.after == ["*"]:
        return [name for name in rows if name != row.stage]
    return [name for name in (*row.needs, *row.after) if name in rows]


def _skip_hopeless(tx: Tx, job_id: str, rows: dict[str, StageRow], meta: Mapping[str, Any]) -> None:
    """Mark waiting stages whose needs are dead or skipped, until nothing changes any more."""
    changed = True
    while changed:
        changed = False
        for row in list(rows.values()):
            lost = [name for name in row.needs if name in rows and rows[name].state in ("dead", "skipped")]
            if row.state == "waiting" and lost:
                rows[row.stage] = msgspec.structs.replace(row, state="skipped")
                tx.save_stage(rows[row.stage])
                skipped = StageSkipped(stage=row.stage, reason=f"{lost[0]} did not finish")
                # No id of its own: a retry may revive the stage, and it may be skipped again.
                tx.append(job_stream(job_id), [skipped], meta=meta)
                changed = True
