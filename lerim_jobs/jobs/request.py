"""Asking for a job: one transaction writes the request, its trace and its first stages, or nothing at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lerim_jobs.errors import ConflictError
from lerim_jobs.jobs.settlement import job_stream, plan
from lerim_jobs.kinds import kind_of
from lerim_jobs.kinds.kind import Asked
from lerim_jobs.log.events import JobRequested
from lerim_jobs.log.store import Identified, StageRow, Store, Tx

__all__ = ["OPEN_JOBS", "Requested", "open_scopes", "request_in", "request_job", "scope_of"]

OPEN_JOBS = "_open_jobs"
"""Read model: the newest job of each kind and scope."""


class Requested(msgspec.Struct, frozen=True):
    """The job and the stages to send hints for. `repeated`: it had been requested before, nothing was added."""

    job_id: str
    freed: list[StageRow]
    repeated: bool = False


def request_job(
    store: Store,
    job_id: str,
    event: JobRequested,
    *,
    projects: Sequence[str] = (),
    skip_if_open: bool = False,
    meta: Mapping[str, Any] | None = None,
) -> Requested:
    """Idempotent by job id. `skip_if_open`: do nothing while a job of the same kind and scope is unfinished."""
    try:
        with store.write() as tx:
            if skip_if_open and (running := _unfinished(tx.doc(OPEN_JOBS, scope_of(event)), tx)):
                return Requested(running, [], repeated=True)
            return request_in(tx, job_id, event, projects=projects, meta=meta)
    except ConflictError:
        return Requested(job_id, [], repeated=True)


def request_in(
    tx: Tx,
    job_id: str,
    event: JobRequested,
    *,
    projects: Sequence[str] = (),
    meta: Mapping[str, Any] | None = None,
) -> Requested:
    """Ask for a job inside a transaction that does more. Raises ConflictError when there is one with this id."""
    about = {"trace_id": event.trace_id, "span_id": event.root_span_id, **(meta or {}), "job_id": job_id}
    stages = kind_of(event.kind).first(Asked(event.params, event.host, projects))
    tx.append(job_stream(job_id), [Identified(f"{job_id}:requested", event)], expected=0, meta=about)
    tx.put_doc(OPEN_JOBS, scope_of(event), job_id.encode())
    return Requested(job_id, plan(tx, job_id, stages, meta=about))


def open_scopes(store: Store) -> dict[str, str]:
    """The newest job of each kind and scope, finished or not."""
    return {scope: job_id.decode() for scope, job_id in store.docs(OPEN_JOBS)}


def scope_of(event: JobRequested) -> str:
    """Kind and scope: of each there is one open job at a time, where that is wanted."""
    return f"{event.kind}:{event.scope}"


def _unfinished(stored: bytes | None, tx: Tx) -> str | None:
    """Claim rows are dropped when a job ends, so a job with rows is unfinished."""
    job_id = stored.decode() if stored else ""
    return job_id if job_id and tx.has_stages(job_id) else None
