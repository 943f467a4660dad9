"""Stages that several kinds of job have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lerim_jobs.kinds.kind import ASK, HOST, Done, Stage, family, host_queue
from lerim_jobs.log.events import JobStatus, StageRequested

__all__ = ["FILE_COUNTS", "FINISH", "MEMORY_COUNTS", "PUBLISH", "counted", "last", "memory_lane", "publish", "status"]

MEMORY_COUNTS = ("added", "updated", "merged", "archived", "unchanged", "rejected")
FILE_COUNTS = ("written", "removed", "added", "edited", "archived", "restored", "moved", "deleted", "conflicts")
_BY_HAND = ("added", "edited", "archived", "restored", "moved", "deleted")


def counted(stage: str, output: Mapping[str, Any]) -> str:
    """What a stage did to memories, in words."""
    names = [name for name in MEMORY_COUNTS if name != "unchanged" and output.get(name)]
    return ", ".join(f"{output[name]} {name}" for name in names) or "done"


def _published(stage: str, output: Mapping[str, Any]) -> str:
    named = [f"{output.get('written', 0)} files written"]
    named += [f"{output[name]} {name} by hand" for name in _BY_HAND if output.get(name)]
    named += [f"{one['path']}: {one['problem']}" for one in output.get("problems", ())]
    return ", ".join(named)


PUBLISH = Stage(
    name="publish",
    queue=HOST,
    run="workers.stages.publish",
    title="Publish memories",
    sums=FILE_COUNTS,
    says=_published,
    brief=True,
    publishes=True,
)

FINISH = Stage(name="finish", queue=ASK, run="workers.stages.finish", title="Finish", brief=True)
"""The last stage of every job: it counts, and its commit ends the job."""


def last() -> StageRequested:
    """It comes behind all other stages of its job, so every job ends."""
    return StageRequested(stage=FINISH.name, queue=FINISH.queue, after=["*"])


def publish(project_id: str, *, host: str, after: list[str], params: Mapping[str, Any]) -> StageRequested:
    """The stage that brings one project's files up to date."""
    return StageRequested(
        stage=f"{PUBLISH.name}:{project_id}",
        queue=host_queue(host),
        host=host,
        after=after,
        input={"project_id": project_id, "dry_run": bool(params.get("dry_run"))},
        lane=f"files-{project_id}",
    )


def memory_lane(project_id: str) -> str:
    """One stage at a time changes a project's memories."""
    return f"memory-{project_id}"


def status(done: Done, stages: tuple[Stage, ...], *, keeps_parts: bool = False) -> JobStatus:
    """How a job ended by what it lost. `keeps_parts`: it is worth something although no memory was decided about."""
    if not done.lost:
        return "succeeded"
    essential = {stage.name for stage in stages if stage.essential}
    if any(family(one.stage) in essential for one in done.lost):
        return "failed"
    decided = any(done.completed(stage.name) for stage in stages if stage.changes_memories)
    return "partial" if decided or keeps_parts else "failed"
