"""The job list: one line per job, kept up to date from the job streams."""

from __future__ import annotations

from lerim_jobs.jobs.job import JobLine, apply
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.projection import View

__all__ = ["JOBS", "JobLine"]


def _apply(line: JobLine | None, row: Recorded) -> JobLine | None:
    event = row.event
    return line if event is None else apply(line, event, row)


JOBS: View[JobLine] = View(
    name="jobs",
    version=4,
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
    key=lambda row: row.stream.removeprefix("job-"),
    apply=_apply,
)
