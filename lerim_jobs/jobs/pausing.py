"""Pausing: a paused job, queue or everything starts no stage; what runs goes on to its end.

The state is events: JobPaused and JobResumed in the job's stream, QueuePaused and QueueResumed in `control-queues`. Claims
must know at once, so documents that say the same change in the same transaction; `recount.py` makes them anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lerim_jobs.errors import BadInput
from lerim_jobs.jobs.settlement import PAUSED, job_stream
from lerim_jobs.log.events import JobPaused, JobResumed, QueuePaused, QueueResumed
from lerim_jobs.log.store import StageCount, StageRow, Store, Tx

__all__ = [
    "EVERYTHING",
    "QUEUES_STREAM",
    "holds",
    "pause_job",
    "pause_queue",
    "paused",
    "ready_in",
    "resume_job",
    "resume_queue",
    "stands",
    "startable",
    "why",
]

EVERYTHING = "*"
"""Stands for every queue."""

QUEUES_STREAM = "control-queues"
_PAGE = 500


def holds(tx: Tx, row: StageRow) -> bool:
    """Whether the stage may not start now."""
    return tx.has_doc(PAUSED, _keys(row.job_id, row.queue))


def paused(store: Store) -> set[str]:
    """What is paused: `job/<job id>` and `queue/<name>`."""
    return {key for key, _ in store.docs(PAUSED)}


def why(found: set[str], job_id: str, queue: str) -> str | None:
    """Which of the paused things keeps a stage of the job in the queue from starting, None when it may start."""
    return next((key for key in _keys(job_id, queue) if key in found), None)


def stands(found: set[str], job_id: str, counts: Iterable[StageCount]) -> bool:
    """Whether a job with these stages does nothing because of what is paused."""
    active = [one for one in counts if one.state in ("ready", "running")]
    held = any(why(found, job_id, one.queue) for one in active)
    return held and not any(one.state == "running" for one in active)


def pause_job(store: Store, job_id: str) -> bool:
    """False: it was paused before. Raises BadInput for a job that has ended or never was."""
    with store.write() as tx:
        return _pause(tx, f"job/{job_id}", job_stream(job_id), JobPaused(), alive=tx.has_stages(job_id))


def resume_job(store: Store, job_id: str) -> bool:
    """False: it was not paused."""
    with store.write() as tx:
        return _resume(tx, f"job/{job_id}", job_stream(job_id), JobResumed())


def pause_queue(store: Store, queue: str) -> bool:
    """False: it was paused before."""
    with store.write() as tx:
        return _pause(tx, f"queue/{queue}", QUEUES_STREAM, QueuePaused(queue))


def resume_queue(store: Store, queue: str) -> bool:
    """False: it was not paused. EVERYTHING also resumes queues that were paused one by one, but no paused job."""
    with store.write() as tx:
        if queue != EVERYTHING:
            return _resume(tx, f"queue/{queue}", QUEUES_STREAM, QueueResumed(queue))
        names = [key.partition("/")[2] for key, _ in tx.docs(PAUSED) if key.startswith("queue/")]
        for name in names:
            _resume(tx, f"queue/{name}", QUEUES_STREAM, QueueResumed(name))
        return bool(names)


def startable(store: Store, *, job_id: str | None = None) -> Iterator[StageRow]:
    """Stages, of a job or all, that are due and not paused: who resumed something sends their hints; a doubled one does no
    harm.
    """
    found = paused(store)
    for queue in sorted({one.queue for one in store.count_stages(job_id, "ready") if one.due}):
        for row in ready_in(store, queue):
            if job_id in (None, row.job_id) and not why(found, row.job_id, queue):
                yield row


def ready_in(store: Store, queue: str, *, sent_before_ms: int | None = None) -> Iterator[StageRow]:
    """Due stages of a queue whose hint was sent before a time, page by page, the longest ago first."""
    until = store.now_ms() + 1 if sent_before_ms is None else sent_before_ms
    after = (-1, "", "")
    while rows := store.ready_stages(queue, sent_before_ms=until, limit=_PAGE, after=after):
        yield from rows
        after = (rows[-1].sent_ms, rows[-1].job_id, rows[-1].stage)


def _pause(tx: Tx, key: str, stream: str, event: JobPaused | QueuePaused, *, alive: bool = True) -> bool:
    if not alive:
        raise BadInput(f"job {key.partition('/')[2]!r} is not running: nothing of it can be paused")
    if tx.doc(PAUSED, key) is not None:
        return False
    tx.append(stream, [event])
    tx.put_doc(PAUSED, key, b"1")
    return True


def _resume(tx: Tx, key: str, stream: str, event: JobResumed | QueueResumed) -> bool:
    if tx.doc(PAUSED, key) is None:
        return False
    tx.append(stream, [event])
    tx.put_doc(PAUSED, key, None)
    return True


def _keys(job_id: str, queue: str) -> tuple[str, str, str]:
    return f"job/{job_id}", f"queue/{queue}", f"queue/{EVERYTHING}"
