"""Counting anew what jobs keep beside their events because the next decision needs it at once: sums, pauses, journals.

It is changed in the transaction of the event that changes it, so it never lags; nothing but damage makes it differ from
what is counted here. Each function returns whether it did.
"""

from __future__ import annotations

from functools import partial

import msgspec

from lerim_jobs.jobs.budget import PAID, SPENT, PaidEvent, added, sum_keys
from lerim_jobs.jobs.caps import Spent
from lerim_jobs.jobs.rebuilding import rebuild_claims
from lerim_jobs.jobs.request import OPEN_JOBS, scope_of
from lerim_jobs.jobs.settlement import PAUSED, UNCLOSED, job_stream, journal_key, journal_view
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import JobPaused, JobRequested, ModelCalled, QueuePaused, QueueResumed
from lerim_jobs.log.projection import replace_docs
from lerim_jobs.log.scan import readable, scan
from lerim_jobs.log.store import Store, Tx

__all__ = ["claim_rows", "journals", "newest_jobs", "open_traces", "pauses", "sums"]

_FINISHED = "JobFinished"


def sums(store: Store) -> bool:
    """What was spent by day, by day and role, and by unfinished job."""

    def counted(tx: Tx) -> dict[str, bytes]:
        found: dict[str, Spent] = {}
        for row in scan(tx, (*PAID, _FINISHED)):
            event = row.event
            if isinstance(event, PaidEvent):
                for key in sum_keys(event, _job_id(row), row.at_ms):
                    found[key] = added(found.get(key, Spent()), event)
        for job_id in _finished(tx):
            found.pop(f"job/{job_id}", None)
        return {key: msgspec.json.encode(spent) for key, spent in found.items()}

    return replace_docs(store, SPENT, counted)


def pauses(store: Store) -> bool:
    """Which jobs and queues are paused."""

    def counted(tx: Tx) -> dict[str, bytes]:
        found: set[str] = set()
        for row in scan(tx, ("JobPaused", "JobResumed", _FINISHED, "QueuePaused", "QueueResumed")):
            event = row.event
            key = f"queue/{event.queue}" if isinstance(event, QueuePaused | QueueResumed) else f"job/{_job_id(row)}"
            found.discard(key)
            if isinstance(event, JobPaused | QueuePaused):
                found.add(key)
        return dict.fromkeys(found, b"1")

    return replace_docs(store, PAUSED, counted)


def newest_jobs(store: Store) -> bool:
    """The newest job of each kind and scope."""

    def counted(tx: Tx) -> dict[str, bytes]:
        rows = scan(tx, (JobRequested.__name__,))
        return {scope_of(row.as_(JobRequested)): _job_id(row).encode() for row in rows}

    return replace_docs(store, OPEN_JOBS, counted)


def open_traces(store: Store) -> bool:
    """Finished jobs whose trace is not closed; who is at it now stays noted."""

    def counted(tx: Tx) -> dict[str, bytes]:
        leases = dict(tx.docs(UNCLOSED))
        closed = {_job_id(row) for row in scan(tx, ("TraceClosed",))}
        return {job_id: leases.get(job_id, b"{}") for job_id in _finished(tx) - closed}

    return replace_docs(store, UNCLOSED, counted)


def journals(store: Store) -> bool:
    """The answers of models that unfinished jobs may replay."""
    prefix = journal_view("")
    kept = {view.removeprefix(prefix) for view in store.doc_views() if view.startswith(prefix)}
    unfinished = {_job_id(row) for row in scan(store, (JobRequested.__name__,))} - _finished(store)
    changed = [replace_docs(store, journal_view(one), partial(_journal, job_id=one)) for one in kept | unfinished]
    return any(changed)


def claim_rows(store: Store) -> bool:
    """Claim rows, what they wait for, and what their stages have counted."""
    with store.write() as tx:
        return bool(rebuild_claims(tx))


def _journal(tx: Tx, job_id: str) -> dict[str, bytes]:
    answers: dict[str, bytes] = {}
    for row in readable(tx.read(job_stream(job_id))):
        if row.type == _FINISHED:
            return {}
        call = row.event
        if isinstance(call, ModelCalled):
            answers.setdefault(journal_key(call.stage, call.request_hash, call.occurrence), call.answer_blob.encode())
    return answers


def _finished(log: Store | Tx) -> set[str]:
    return {_job_id(row) for row in scan(log, (_FINISHED,))}


def _job_id(row: Recorded) -> str:
    return row.stream.removeprefix("job-")
