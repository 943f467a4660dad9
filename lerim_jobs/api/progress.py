"""What is said of each step of a job that is followed."""

from __future__ import annotations

from lerim_jobs.api.results import Progress
from lerim_jobs.kinds import stage_of
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    JobFinished,
    JobPaused,
    JobResumed,
    StageCompleted,
    StageFailed,
    StageQuarantined,
)
from lerim_jobs.tracing.names import stage_title

__all__ = ["progress"]


def progress(row: Recorded) -> Progress | None:
    """The step this event is, None for one that nobody needs to hear of."""
    text = _said(row)
    return Progress(text, row.type, getattr(row.event, "stage", None)) if text else None


def _said(row: Recorded) -> str:
    match row.event:
        case StageCompleted() as event:
            return f"{stage_title(event.stage)}: {stage_of(event.stage).says(event.stage, event.output)}"
        case StageFailed() as event if event.code != "handed_back":
            later = "trying again" if event.retry_at_ms else "giving up"
            later = "parked" if event.code == "parked" else later
            return f"{stage_title(event.stage)}: {event.error_type}: {event.message or event.code}; {later}"
        case StageQuarantined() as event:
            return f"{stage_title(event.stage)}: given up after {event.attempts} attempts: {event.reason}"
        case JobPaused():
            return "paused: running stages finish, nothing else starts"
        case JobResumed():
            return "going on"
        case JobFinished() as event if event.status == "cancelled":
            return "cancelled"
        case _:
            return ""
