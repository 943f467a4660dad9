"""The job list: one line per job, folded from the job streams."""

from __future__ import annotations

from typing import Any

import msgspec

from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
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
from lerim_jobs.log.projection import View

__all__ = ["JOBS", "JobLine"]


class JobLine(msgspec.Struct, frozen=True, omit_defaults=True):
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
    stages: int = 0
    settled: int = 0
    running: list[str] = []
    parked: list[str] = []
    paused: bool = False
    failures: int = 0
    last_error: str | None = None
    model_calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    unpriced_calls: int = 0
    result: dict[str, Any] = {}
    error: str | None = None
    trace_closed: bool = False


def _apply(line: JobLine | None, row: Recorded) -> JobLine | None:
    event = row.event
    if isinstance(event, JobRequested):
        return JobLine(
            job_id=_key(row),
            kind=event.kind,
            status="requested",
            requested_ms=row.at_ms,
            scope=event.scope,
            requested_by=event.requested_by,
            trace_id=event.trace_id,
            sampled=event.sampled,
            params=event.params,
        )
    if line is None or event is None:
        return line
    changed = msgspec.structs.replace(line, **_changes(line, event, row))
    return changed if changed.finished_ms else msgspec.structs.replace(changed, status=_status(changed))


def _status(line: JobLine) -> str:
    """Of a job that has not ended."""
    if line.paused:
        return "paused"
    if line.parked and not line.running:
        return "parked"
    return "running" if line.attempts else "requested"


def _changes(line: JobLine, event: object, row: Recorded) -> dict[str, Any]:
    match event:
        case StageRequested():
            return {"stages": line.stages + 1}
        case StageStarted():
            running = [*_without(line.running, event.stage), event.stage]
            parked = _without(line.parked, event.stage)
            return {"attempts": line.attempts + 1, "running": running, "parked": parked}
        case StageCompleted() | StageSkipped() | StageQuarantined():
            return {"settled": line.settled + 1, "running": _without(line.running, event.stage)}
        case StageRetried():
            return {"settled": line.settled - 1 - len(event.revived)}
        case JobPaused() | JobResumed():
            return {"paused": isinstance(event, JobPaused)}
        case StageFailed():
            running = _without(line.running, event.stage)
            is_parked = event.code == "parked"
            parked = [*_without(line.parked, event.stage), *([event.stage] if is_parked else [])]
            return {
                "running": running,
                "parked": parked,
                "failures": line.failures + (event.code not in ("handed_back", "parked")),
                "last_error": f"{event.stage}: {event.error_type}: {event.message}",
            }
        case ModelCalled() | ModelCallFailed():
            return _used(line, event)
        case JobFinished():
            return {
                "status": event.status,
                "finished_ms": row.at_ms,
                "result": event.result,
                "error": event.error,
                "running": [],
                "parked": [],
                "paused": False,
            }
        case TraceClosed():
            return {"trace_closed": True}
        case _:
            return {}


def _used(line: JobLine, event: ModelCalled | ModelCallFailed) -> dict[str, Any]:
    answered = isinstance(event, ModelCalled)
    return {
        "model_calls": line.model_calls + answered,
        "tokens_in": line.tokens_in + event.tokens_in,
        "tokens_out": line.tokens_out + event.tokens_out,
        "cost_usd": round(line.cost_usd + (event.cost_usd or 0.0), 10),
        "unpriced_calls": line.unpriced_calls + (answered and event.cost_usd is None),
    }


def _without(names: list[str], name: str) -> list[str]:
    return [other for other in names if other != name]


def _key(row: Recorded) -> str:
    return row.stream.removeprefix("job-")


JOBS: View[JobLine] = View(
    name="jobs",
    version=3,
    shape=JobLine,
    types=(
        "JobRequested",
        "StageRequested",
        "StageStarted",
        "StageCompleted",
        "StageSkipped",
        "StageQuarantined",
        "StageFailed",
        "StageRetried",
        "JobPaused",
        "JobResumed",
        "ModelCalled",
        "ModelCallFailed",
        "JobFinished",
        "TraceClosed",
    ),
    key=_key,
    apply=_apply,
)
