"""Every job ends, every stage of a finished one is settled once, and a job that goes on has something that can run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from lerim_jobs.audit.finding import Breach, Zero
from lerim_jobs.kinds import known_stage
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    JobFinished,
    JobRequested,
    StageCompleted,
    StageFailed,
    StageQuarantined,
    StageRequested,
    StageSkipped,
)
from lerim_jobs.log.scan import scan
from lerim_jobs.log.store import Store

__all__ = ["account_for_jobs"]

_OUTCOMES = ("StageCompleted", "StageFailed", "StageQuarantined", "StageSkipped")
_TYPES = ("JobRequested", "StageRequested", *_OUTCOMES, "JobFinished")


@dataclass(slots=True)
class _Job:
    open: set[str] = field(default_factory=set)
    done: set[str] = field(default_factory=set)


def account_for_jobs(store: Store) -> Zero:
    """Of jobs that are finished only their ids are kept in memory."""
    jobs: dict[str, _Job] = {}
    ended: set[str] = set()
    breaches: list[Breach] = []
    counts = {"jobs": 0, "stages": 0, "files": 0}
    for row in scan(store, _TYPES):
        job_id = row.stream.removeprefix("job-")
        counts["jobs"] += isinstance(row.event, JobRequested)
        counts["stages"] += isinstance(row.event, StageRequested)
        if job_id in ended:
            breaches.append(Breach(job_id, f"{row.type} stands behind its end: nothing may settle again"))
            continue
        breaches += _apply(store, jobs.setdefault(job_id, _Job()), job_id, row, counts)
        if isinstance(row.event, JobFinished):
            del jobs[job_id]
            ended.add(job_id)
    for job_id, job in jobs.items():
        breaches += _unfinished(store, job_id, job)
    return Zero("unaccounted", breaches, counts, "", {"jobs_open": len(jobs)})


def _apply(store: Store, job: _Job, job_id: str, row: Recorded, counts: dict[str, int]) -> Iterator[Breach]:
    match row.event:
        case StageRequested(stage=stage):
            job.open.add(stage)
        case StageQuarantined(stage=stage) | StageSkipped(stage=stage):
            job.open.discard(stage)
        case StageFailed(stage=stage) as failed if stage in job.done:
            yield Breach(f"{job_id} {stage}", f"it was settled, and failed again in attempt {failed.attempt}")
        case StageCompleted(stage=stage) as completed:
            if stage in job.done:
                yield Breach(f"{job_id} {stage}", f"it was completed again in attempt {completed.attempt}")
            job.open.discard(stage)
            job.done.add(stage)
            if (known := known_stage(stage)) and known.accounts_for_files:
                yield from _files(store, job_id, completed, counts)
        case JobFinished(status=status):
            if job.open and status != "cancelled":
                some = ", ".join(sorted(job.open)[:3])
                yield Breach(job_id, f"it ended while {len(job.open)} of its stages were open: {some}")
        case _:
            pass


def _files(store: Store, job_id: str, completed: StageCompleted, counts: dict[str, int]) -> Iterator[Breach]:
    blob = completed.output_blob
    output = msgspec.json.decode(store.blob(blob)) if blob else completed.output
    found, skipped = output.get("found", 0), output.get("skipped", 0)
    counts["files"] += found
    known = output.get("indexed", 0) + output.get("unchanged", 0) + skipped
    if found != known:
        yield Breach(job_id, f"it found {found} session files and says of {known} what became of them")
    if skipped != sum(output.get("skipped_reasons", {}).values()):
        yield Breach(job_id, "it skipped session files without a reason")


def _unfinished(store: Store, job_id: str, job: _Job) -> Iterator[Breach]:
    rows = {row.stage: row for row in store.stages(job_id)}
    if not any(row.state in ("ready", "running", "parked") for row in rows.values()):
        yield Breach(job_id, "it is not finished, and none of its stages can run")
    for stage in sorted(job.open - rows.keys()):
        yield Breach(f"{job_id} {stage}", "the log expects it and no worker can claim it")
