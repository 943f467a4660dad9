"""A job as its stream tells it: what was asked, who tried which stage and when, how each try and the job ended.

`apply` is the only reading of these events in the product. The whole job (`fold`), the line that lists show, the trace and what
a job did are all made by it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from lerim_jobs.errors import BadInput, CorruptLog
from lerim_jobs.jobs.attempts import Attempt, Stage, Usage
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    Event,
    JobFinished,
    JobPaused,
    JobRequested,
    JobResumed,
    ModelCalled,
    ModelCallFailed,
    StageCompleted,
    StageFailed,
    StageQuarantined,
    StageRequested,
    StageRetried,
    StageSkipped,
    StageStarted,
    TraceClosed,
)
from lerim_jobs.log.store import Store

__all__ = ["Job", "JobLine", "apply", "fold", "load", "with_outputs"]


class JobLine(msgspec.Struct, omit_defaults=True):
    """A job as lists and progress show it. `status`: requested, running, parked, paused, or how it ended."""

    job_id: str
    kind: str
    status: str
    requested_ms: int
    scope: str
    requested_by: str
    trace_id: str
    sampled: bool
    params: dict[str, Any] = {}
    finished_ms: int | None = None
    attempts: int = 0
    planned: int = 0
    settled: int = 0
    running: list[str] = []
    parked: list[str] = []
    paused: bool = False
    failures: int = 0
    last_error: str | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    result: dict[str, Any] = {}
    error: str | None = None
    trace_closed: bool = False


class Job(JobLine, kw_only=True):
    """The same with everything the log tells of its stages, by name, in the order they were requested."""

    request: JobRequested
    stages: dict[str, Stage] = {}
    finished: JobFinished | None = None

    def stage(self, name: str) -> Stage:
        """The stage of this name, made when it is new."""
        return self.stages.setdefault(name, Stage(name))

    def attempt(self, stage: str, number: int) -> Attempt | None:
        """One attempt that was begun."""
        known = self.stages.get(stage)
        return known.attempts.get(number) if known else None


def load(store: Store, job_id: str) -> Job:
    """The whole job, outputs included. Raises BadInput when there is no such job."""
    job = fold(store.read(job_stream(job_id)))
    if job is None:
        raise BadInput(f"there is no job {job_id!r}: `lerim jobs list` shows them")
    return with_outputs(store, job)


def fold(events: Iterable[Recorded]) -> Job | None:
    """The job from its events; outputs kept as blobs are not loaded. None when they do not begin a job.

    Never raises: what cannot be read or does not fit is passed over.
    """
    job: JobLine | None = None
    for row in events:
        try:
            event = row.event
        except CorruptLog:
            continue
        if event is not None and not (job and job.finished_ms and isinstance(event, StageStarted)):
            job = apply(job, event, row, whole=True)
    if not isinstance(job, Job):
        return None
    for stage in job.stages.values():
        stage.end_silent(job.finished_ms, cancelled=job.status == "cancelled")
    return job


def with_outputs(store: Store, job: Job) -> Job:
    """The same job with outputs that were stored as blobs put in place; those that retention dropped stay empty."""
    for stage in job.stages.values():
        for attempt in stage.attempts.values():
            if attempt.output_blob:
                try:
                    attempt.output = msgspec.json.decode(store.blob(attempt.output_blob))
                except CorruptLog:
                    if job.finished is None:
                        raise
    return job


def apply(job: JobLine | None, event: Event, row: Recorded, *, whole: bool = False) -> JobLine | None:
    """The job after an event; with `whole` a `Job`, else only its line. An event before the request gives none."""
    if isinstance(event, JobRequested):
        return job or _requested(event, row, whole=whole)
    if job is None:
        return None
    _change_line(job, event, row.at_ms)
    if isinstance(job, Job):
        _change_stages(job, event, row.at_ms)
    if job.finished_ms is None:
        job.status = _status(job)
    return job


def _requested(event: JobRequested, row: Recorded, *, whole: bool) -> JobLine:
    about: dict[str, Any] = {
        "job_id": row.stream.removeprefix("job-"),
        "status": "requested",
        "requested_ms": row.at_ms,
        **{name: getattr(event, name) for name in ("kind", "scope", "requested_by", "trace_id", "sampled", "params")},
    }
    return Job(request=event, **about) if whole else JobLine(**about)


def _status(job: JobLine) -> str:
    """Of a job that has not ended."""
    if job.paused:
        return "paused"
    if job.parked and not job.running:
        return "parked"
    return "running" if job.attempts else "requested"


def _change_line(job: JobLine, event: Event, at_ms: int) -> None:
    match event:
        case StageRequested():
            job.planned += 1
        case StageStarted():
            job.attempts += 1
            job.running = [*_without(job.running, event.stage), event.stage]
            job.parked = _without(job.parked, event.stage)
        case StageFailed():
            _change_failed(job, event)
        case StageCompleted() | StageSkipped() | StageQuarantined():
            job.settled += 1
            job.running = _without(job.running, event.stage)
        case StageRetried():
            job.settled -= 1 + len(event.revived)
        case JobPaused() | JobResumed():
            job.paused = isinstance(event, JobPaused)
        case ModelCalled() | ModelCallFailed():
            job.usage.add(event)
        case JobFinished() if job.finished_ms is None:
            job.status, job.finished_ms, job.result, job.error = event.status, at_ms, event.result, event.error
            job.running, job.parked, job.paused = [], [], False
        case TraceClosed():
            job.trace_closed = True
        case _:
            pass


def _change_failed(job: JobLine, event: StageFailed) -> None:
    job.running, job.parked = _without(job.running, event.stage), _without(job.parked, event.stage)
    if event.code == "parked":
        job.parked.append(event.stage)
    job.failures += event.code not in ("handed_back", "parked")
    job.last_error = f"{event.stage}: {event.error_type}: {event.message}"


def _change_stages(job: Job, event: Event, at_ms: int) -> None:
    match event:
        case StageRequested():
            job.stage(event.stage).request(event, at_ms)
        case StageStarted():
            job.stage(event.stage).start(event, at_ms)
        case StageCompleted() | StageFailed():
            job.stage(event.stage).end(event, at_ms)
        case StageQuarantined() | StageSkipped():
            job.stage(event.stage).give_up(event, at_ms)
        case StageRetried():
            for name in (event.stage, *event.revived):
                job.stage(name).revive()
        case ModelCalled() | ModelCallFailed():
            if attempt := job.attempt(event.stage, event.attempt):
                attempt.usage.add(event)
        case JobFinished() if job.finished is None:
            job.finished = event
        case _:
            pass


def _without(names: list[str], name: str) -> list[str]:
    return [other for other in names if other != name]
