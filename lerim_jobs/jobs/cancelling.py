"""Cancelling a job: one transaction ends it, whatever of it runs.

Its claims are gone, so a stage that still runs can commit nothing, and workers end its model calls as soon as they look.
What it had finished stays: memories that were added, and every answer that was paid for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import msgspec

from lerim_jobs.errors import BadInput
from lerim_jobs.jobs import budget
from lerim_jobs.jobs.closing import delay_closing
from lerim_jobs.jobs.job import Job, fold, memory_counts, with_outputs
from lerim_jobs.jobs.settlement import end_job, job_stream
from lerim_jobs.log.events import SessionReleased
from lerim_jobs.log.store import StageRow, Store, Tx
from lerim_jobs.sessions.session import SESSIONS, Session

__all__ = ["CLOSE_AFTER_MS", "Cancelled", "cancel"]

CLOSE_AFTER_MS = 1_500
"""The trace is closed when workers have had this time to end what they ran, so that their spans come first."""


class Cancelled(msgspec.Struct, frozen=True):
    """What ended with the job. `freed`: stages of other jobs that waited for its lanes; `unpublished`: project ids."""

    running: list[str]
    sessions: list[str]
    freed: list[StageRow]
    unpublished: list[str]


def cancel(store: Store, job_id: str, *, alive: Callable[[str], bool | None]) -> Cancelled:
    """End the job as cancelled. Raises BadInput when it has ended already or never was."""
    with store.write() as tx:
        events, rows = tx.read(job_stream(job_id)), tx.stages(job_id)
        if not events:
            raise BadInput(f"there is no job {job_id!r}: `lerim jobs list` shows them")
        job = fold(job_id, events)
        if job.finished:
            raise BadInput(f"job {job_id!r} has ended already: {job.finished.status}")
        job = with_outputs(store, job)
        about = {"job_id": job_id, "trace_id": job.request.trace_id, "span_id": job.request.root_span_id}
        sessions = _give_back(tx, job, about)
        result = {"memories": memory_counts(job), "released_sessions": len(sessions)}
        end_job(tx, job_id, status="cancelled", result=result, error=None, meta=about)
        budget.release_job(tx, job_id, alive=alive)
        running = [row.stage for row in rows if row.state == "running"]
        if running:
            delay_closing(tx, job_id, CLOSE_AFTER_MS)
        return Cancelled(running, sessions, _freed(tx, rows), _unpublished(job))


def _give_back(tx: Tx, job: Job, about: dict[str, str]) -> list[str]:
    """Release the sessions the job had taken and return their ids."""
    given = []
    planned = (stage.request.input.get("session", {}) for stage in job.family("integrate"))
    for stream in sorted({session["stream"] for session in planned if session}):
        session: Session | None = reduce(SESSIONS.apply, tx.read(stream), None)
        if session and session.taken_by == job.job_id:
            tx.append(stream, [SessionReleased(job.job_id, session.extracted_to)], meta=about)
            given.append(session.session_id)
    return sorted(given)


def _freed(tx: Tx, rows: list[StageRow]) -> list[StageRow]:
    now = tx.now_ms()
    lanes = dict.fromkeys(row.lane for row in rows if row.lane)
    waiting = [[row for row in tx.lane(lane) if row.state == "ready" and row.due_ms <= now] for lane in lanes if lane]
    return [first[0] for first in waiting if first]


def _unpublished(job: Job) -> list[str]:
    """Projects whose memories the job changed and whose files it did not bring up to date any more."""
    if job.request.params.get("dry_run"):
        return []
    changed, published = set[str](), set[str]()
    for stage in job.stages.values():
        given = stage.request.input
        project = given.get("project_id") or given.get("session", {}).get("project_id")
        if stage.state == "done" and project:
            (
                published
                if stage.family == "publish"
                else changed
                if stage.family in ("integrate", "curate")
                else set()
            ).add(project)
    return sorted(changed - published)
