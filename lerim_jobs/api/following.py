"""Following a job by the log to its end: a step at a time, then how it ended."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, TypeVar

from lerim_jobs.api.progress import progress
from lerim_jobs.api.results import Job, Progress
from lerim_jobs.api.state import State, find_job, spans_of
from lerim_jobs.clock import iso
from lerim_jobs.errors import QueueUnavailable, WaitTimeout
from lerim_jobs.jobs.line import JobLine
from lerim_jobs.jobs.pausing import paused, why
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import JobFinished, StageCompleted, StageQuarantined, TraceClosed

if TYPE_CHECKING:
    from lerim_jobs.machine.processes import TemporaryWorker

__all__ = ["Steps", "drained", "follow", "job_of", "send_trace"]

Steps = Generator[Progress, None, Job]
T = TypeVar("T")

_CLOSING_S = 5.0
_POLL_S = 0.03
_RESTARTS = 5
_ENDS = (StageCompleted.__name__, StageQuarantined.__name__)
"""Events after which a worker of our own may die as often again: each of them is an end of something."""


def job_of(line: JobLine) -> Job:
    """The line as the service shows it."""
    return Job(
        job_id=line.job_id,
        kind=line.kind,
        status=line.status,
        requested_at=iso(line.requested_ms),
        finished_at=iso(line.finished_ms),
        trace_id=line.trace_id,
        traced=line.sampled,
        attempts=line.attempts,
        stages=line.planned,
        settled=line.settled,
        parked=line.parked,
        last_error=line.last_error,
        error=line.error,
        model_calls=line.usage.calls,
        tokens_in=line.usage.tokens_in,
        tokens_out=line.usage.tokens_out,
        cost_usd=line.usage.cost_usd,
        unpriced_calls=line.usage.unpriced_calls,
        result=line.result,
    )


def follow(
    state: State, job_id: str, *, timeout_s: float | None = None, worker: TemporaryWorker | None = None, after: int = 0
) -> Steps:
    """Yield each step until the job has ended and its trace is closed, or is parked. Raises WaitTimeout.

    `after` is the version of the job's stream that was seen before; a `worker` that dies is started again.
    """
    deadline = time.monotonic() + timeout_s if timeout_s is not None else None
    ended_at: float | None = None
    version, restarts, held_by = after, 0, ""
    while True:
        rows = state.store.read(job_stream(job_id), version)
        for row in rows:
            version = row.version
            ended_at = time.monotonic() if row.type == JobFinished.__name__ else ended_at
            restarts = 0 if row.type in _ENDS else restarts
            if step := progress(row):
                yield step
        if _is_over(state, job_id, rows, ended_at):
            return job_of(find_job(state, job_id))
        if ended_at is None and deadline is not None and time.monotonic() > deadline:
            raise WaitTimeout(f"stopped waiting for {job_id}; it goes on: `lerim jobs watch {job_id}`", job_id=job_id)
        if worker and worker.died and ended_at is None:
            restarts += 1
            _restart(worker, restarts, state)
        if not rows:
            queues = _held_by(state, job_id)
            if queues and queues != held_by:
                yield Progress(_held(queues))
            held_by = queues
            time.sleep(_POLL_S)


def drained(steps: Generator[Progress, None, T], each: Callable[[Progress], object] | None = None) -> T:
    """What the steps end with, after each of them was shown."""
    with contextlib.closing(steps):
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            if each:
                each(step)


def send_trace(state: State, job: Job) -> None:
    """Where our environment names a backend that no worker has, send it the finished trace."""
    from lerim_jobs.machine.processes import workers_running
    from lerim_jobs.tracing.export.forward import destinations, forward

    known = [backend for one in workers_running(state.home) if not one.temporary for backend in one.backends]
    missing = set(destinations(state.env)) - set(known)
    if not (missing and job.traced and job.finished_at):
        return
    _, lost = forward(state.home, state.env, spans_of(state, job.job_id, job.trace_id), known=known)
    if lost:
        where = ", ".join(sorted(missing))
        state.tell(f"{lost} spans were not taken by {where}; `lerim trace show {job.job_id}` has them.")


def _is_over(state: State, job_id: str, rows: Sequence[Recorded], ended_at: float | None) -> bool:
    """Ended with its trace closed, or parked. A trace that nobody closes is not waited for for ever."""
    if any(row.type == TraceClosed.__name__ for row in rows):
        return True
    if ended_at is not None:
        return time.monotonic() - ended_at > _CLOSING_S
    return bool(rows) and _is_parked(state, job_id)


def _is_parked(state: State, job_id: str) -> bool:
    """Nothing of the job runs or may start before something happens from outside."""
    line = find_job(state, job_id)
    if not line.parked:
        return False
    counts = Counter[str]()
    for one in state.store.count_stages(job_id):
        counts[one.state if one.due else "later"] += one.stages
    return not counts["running"] and not counts["ready"]


def _held_by(state: State, job_id: str) -> str:
    """The paused queues that keep stages of the job from starting."""
    held = paused(state.store)
    if not held:
        return ""
    waiting = [one.queue for one in state.store.count_stages(job_id) if one.state == "ready"]
    keys = {key for queue in waiting if (key := why(held, job_id, queue))}
    return ", ".join(sorted(key.partition("/")[2] for key in keys if key.startswith("queue/")))


def _held(queues: str) -> str:
    said = f"paused: queue {queues}; `lerim jobs resume --queue` or `--all` goes on"
    return said.replace("queue *", "everything")


def _restart(worker: TemporaryWorker, restarts: int, state: State) -> None:
    if restarts > _RESTARTS:
        raise QueueUnavailable(f"the worker died {_RESTARTS} times: see {str(state.home.logs / 'worker.log')!r}")
    state.tell("The worker died; starting another one, finished stages are not repeated.")
    worker.restart()
