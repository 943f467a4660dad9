"""Cancelling a job: one transaction ends it, whatever of it runs.

Its claims are gone, so a stage that still runs can commit nothing, and workers end its model calls as soon as they look and
book what these may cost; what dead workers had reserved runs out by itself.
What it had finished stays: memories that were added, and every answer that was paid for.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any

import msgspec

from lerim_jobs.errors import BadInput
from lerim_jobs.jobs import sums
from lerim_jobs.jobs.closing import delay_closing
from lerim_jobs.jobs.settlement import end_job, job_stream
from lerim_jobs.kinds import known_stage
from lerim_jobs.kinds.kind import project_of, session_of
from lerim_jobs.log.events import JobFinished, JobRequested, SessionReleased
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


def cancel(store: Store, job_id: str) -> Cancelled:
    """End the job as cancelled. Raises BadInput when it has ended already or never was."""
    with store.write() as tx:
        request, rows = _unfinished(tx, job_id), tx.stages(job_id)
        about = {"job_id": job_id, "trace_id": request.trace_id, "span_id": request.root_span_id}
        sessions = _give_back(tx, job_id, rows, about)
        result = {"memories": sums.memory_counts(sums.of(tx, job_id)), "released_sessions": len(sessions)}
        end_job(tx, job_id, status="cancelled", result=result, error=None, meta=about)
        running = [row.stage for row in rows if row.state == "running"]
        if running:
            delay_closing(tx, job_id, CLOSE_AFTER_MS)
        unpublished = [] if request.params.get("dry_run") else _unpublished(rows)
        return Cancelled(running, sessions, _freed(tx, rows), unpublished)


def _unfinished(tx: Tx, job_id: str) -> JobRequested:
    begun = tx.read(job_stream(job_id), limit=1)
    if not begun:
        raise BadInput(f"there is no job {job_id!r}: `lerim jobs list` shows them")
    if not tx.has_stages(job_id):
        ends = [row.as_(JobFinished).status for row in tx.read(job_stream(job_id)) if row.type == JobFinished.__name__]
        raise BadInput(f"job {job_id!r} has ended already: {ends[0] if ends else 'its log is cut off'}")
    return begun[0].as_(JobRequested)


def _give_back(tx: Tx, job_id: str, rows: Iterable[StageRow], about: dict[str, str]) -> list[str]:
    """Release the sessions the job had taken and return their ids."""
    given = []
    streams = {
        session_of(_input(row)).get("stream")
        for row in rows
        if (known := known_stage(row.stage)) and known.settles_session
    }
    for stream in sorted(filter(None, streams)):
        session: Session | None = reduce(SESSIONS.apply, tx.read(stream), None)
        if session and session.taken_by == job_id:
            tx.append(stream, [SessionReleased(job_id, session.extracted_to)], meta=about)
            given.append(session.session_id)
    return sorted(given)


def _freed(tx: Tx, rows: list[StageRow]) -> list[StageRow]:
    now = tx.now_ms()
    lanes = dict.fromkeys(row.lane for row in rows if row.lane)
    waiting = [[row for row in tx.lane(lane) if row.state == "ready" and row.due_ms <= now] for lane in lanes if lane]
    return [first[0] for first in waiting if first]


def _unpublished(rows: Iterable[StageRow]) -> list[str]:
    """Projects whose memories the job changed and whose files it did not bring up to date any more."""
    changed, published = set[str](), set[str]()
    for row in rows:
        known, project = known_stage(row.stage), project_of(_input(row))
        if row.state != "done" or known is None or project is None:
            continue
        if known.changes_memories:
            changed.add(project)
        if known.publishes:
            published.add(project)
    return sorted(changed - published)


def _input(row: StageRow) -> dict[str, Any]:
    return msgspec.json.decode(row.input, type=dict[str, Any])
