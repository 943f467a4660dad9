"""Pausing: a paused job, queue or everything starts no stage; what runs goes on to its end.

The state is events: JobPaused and JobResumed in the job's stream, QueuePaused and QueueResumed in `control-queues`. Claims
must know at once, so documents that say the same change in the same transaction; `recount` makes them anew.
"""

from __future__ import annotations

from collections.abc import Iterable

from lerim_jobs.errors import BadInput
from lerim_jobs.jobs.settlement import PAUSED, job_stream
from lerim_jobs.log.events import JobFinished, JobPaused, JobResumed, QueuePaused, QueueResumed
from lerim_jobs.log.store import StageRow, Store, Tx

__all__ = [
    "EVERYTHING",
    "QUEUES_STREAM",
    "holds",
    "pause_job",
    "pause_queue",
    "paused",
    "recount",
    "resume_job",
    "resume_queue",
    "stands",
    "startable",
    "why",
]

EVERYTHING = "*"
"""Stands for every queue."""

QUEUES_STREAM = "control-queues"


def holds(tx: Tx, row: StageRow) -> bool:
    """Whether the stage may not start now."""
    return any(tx.doc(PAUSED, key) is not None for key in _keys(row))


def paused(store: Store) -> set[str]:
    """What is paused: `job/<job id>` and `queue/<name>`."""
    return {key for key, _ in store.docs(PAUSED)}


def why(found: set[str], row: StageRow) -> str | None:
    """Which of the paused things keeps the stage from starting, None when it may start."""
    return next((key for key in _keys(row) if key in found), None)


def stands(found: set[str], rows: Iterable[StageRow]) -> bool:
    """Whether a job with these stages does nothing because of what is paused."""
    active = [row for row in rows if row.state in ("ready", "running")]
    return any(why(found, row) for row in active) and not any(row.state == "running" for row in active)


def pause_job(store: Store, job_id: str) -> bool:
    """False: it was paused before. Raises BadInput for a job that has ended or never was."""
    with store.write() as tx:
        return _pause(tx, f"job/{job_id}", job_stream(job_id), JobPaused(), alive=bool(tx.stages(job_id)))


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
        names = [key.partition("/")[2] for key in paused(store) if key.startswith("queue/")]
        for name in names:
            _resume(tx, f"queue/{name}", QUEUES_STREAM, QueueResumed(name))
        return bool(names)


def startable(store: Store) -> list[StageRow]:
    """Stages that are due and not paused: who resumed something sends their hints, a doubled one does no harm."""
    found, now = paused(store), store.now_ms()
    return [row for row in store.due_stages() if row.state == "ready" and row.due_ms <= now and not why(found, row)]


def recount(store: Store) -> None:
    """Throw the documents away and fold them from the log again."""
    with store.write() as tx:
        tx.clear_docs(PAUSED)
        position = 0
        kinds = (JobPaused, JobResumed, JobFinished, QueuePaused, QueueResumed)
        while rows := store.read_all(position, types=[kind.__name__ for kind in kinds]):
            position = rows[-1].position
            for row in rows:
                event = row.event
                is_queue = isinstance(event, QueuePaused | QueueResumed)
                key = f"queue/{event.queue}" if is_queue else f"job/{row.stream.removeprefix('job-')}"  # type: ignore[union-attr]
                tx.put_doc(PAUSED, key, b"1" if isinstance(event, JobPaused | QueuePaused) else None)


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


def _keys(row: StageRow) -> tuple[str, str, str]:
    return f"job/{row.job_id}", f"queue/{row.queue}", f"queue/{EVERYTHING}"
