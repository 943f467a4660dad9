"""A job as its stream tells it: what was asked, and what became of each stage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from lerim_jobs.errors import BadInput, CorruptLog
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    JobFinished,
    JobRequested,
    StageCompleted,
    StageFailed,
    StageQuarantined,
    StageRequested,
    StageRetried,
    StageSkipped,
    StageStarted,
)
from lerim_jobs.log.store import Store

__all__ = ["MEMORY_COUNTS", "Job", "Stage", "fold", "load", "memory_counts", "with_outputs"]

MEMORY_COUNTS = ("added", "updated", "merged", "archived", "unchanged", "rejected")


class Stage(msgspec.Struct, frozen=True):
    """One stage of the plan. `output` only when `done`; `reason` when dead or skipped."""

    request: StageRequested
    state: Literal["open", "running", "done", "dead", "skipped"] = "open"
    attempts: int = 0
    output: dict[str, Any] = {}
    output_blob: str | None = None
    reason: str = ""
    code: str = ""
    """Of the last failed attempt."""

    @property
    def family(self) -> str:
        """`extract` of `extract:ab12:0`."""
        return self.request.stage.partition(":")[0]


class Job(msgspec.Struct, frozen=True):
    """A job and its stages by name, in the order they were requested."""

    job_id: str
    request: JobRequested
    stages: dict[str, Stage]
    requested_ms: int
    finished: JobFinished | None = None
    trace_closed: bool = False

    def family(self, name: str) -> list[Stage]:
        """The stages of one family, in the order they were requested."""
        return [stage for stage in self.stages.values() if stage.family == name]


def load(store: Store, job_id: str) -> Job:
    """Fold the job's stream. Raises BadInput when there is no such job."""
    events = store.read(job_stream(job_id))
    if not events:
        raise BadInput(f"there is no job {job_id!r}: `lerim jobs list` shows them")
    return with_outputs(store, fold(job_id, events))


def fold(job_id: str, events: Iterable[Recorded]) -> Job:
    """The job from its events; outputs kept as blobs are not loaded."""
    job: Job | None = None
    for row in events:
        event = row.event
        if isinstance(event, JobRequested):
            job = Job(job_id, event, {}, row.at_ms)
        elif job is not None:
            job = _applied(job, event)
    if job is None:
        raise BadInput(f"job {job_id!r} was never requested")
    return job


def with_outputs(store: Store, job: Job) -> Job:
    """The same job with outputs that were stored as blobs put in place."""
    for name, stage in job.stages.items():
        if stage.output_blob:
            job.stages[name] = msgspec.structs.replace(stage, output=_output(store, stage.output_blob, job))
    return job


def memory_counts(job: Job) -> dict[str, int]:
    """What the job's finished stages did to memories; a candidate whose quote stands nowhere counts as rejected."""
    outputs = [stage.output for stage in (*job.family("integrate"), *job.family("curate"))]
    counts = {name: sum(output.get(name, 0) for output in outputs) for name in MEMORY_COUNTS}
    unproved = sum(len(stage.output.get("dropped", ())) for stage in job.family("extract"))
    return {**counts, "rejected": counts["rejected"] + unproved}


def _output(store: Store, blob: str, job: Job) -> dict[str, Any]:
    try:
        output: dict[str, Any] = msgspec.json.decode(store.blob(blob))
    except CorruptLog:
        if job.finished is None:
            raise
        return {}  # retention drops them when the job is long over
    return output


def _applied(job: Job, event: object) -> Job:
    stages = job.stages
    match event:
        case StageRequested():
            stages[event.stage] = Stage(event)
        case StageStarted():
            _change(stages, event.stage, state="running", attempts=event.attempt)
        case StageCompleted():
            _change(stages, event.stage, state="done", output=event.output, output_blob=event.output_blob)
        case StageFailed():
            _change(stages, event.stage, state="open", reason=f"{event.error_type}: {event.message}", code=event.code)
        case StageQuarantined():
            _change(stages, event.stage, state="dead", reason=event.reason)
        case StageSkipped():
            _change(stages, event.stage, state="skipped", reason=event.reason)
        case StageRetried():
            for name in (event.stage, *event.revived):
                _change(stages, name, state="open", reason="")
        case JobFinished():
            return msgspec.structs.replace(job, finished=event)
    return job


def _change(stages: dict[str, Stage], name: str, **changes: Any) -> None:
    if name in stages:
        stages[name] = msgspec.structs.replace(stages[name], **changes)
