"""publish: hand edits become events, then memories become markdown files in the project.

Reads   the project's memory folder, its memories, what was published last
Writes  what people did as events of memories, at once and fenced by their versions; ProjectPublished for what was written
Raises  BadInput when the project's folder is gone, ConflictError (a memory moved meanwhile: decided again)
"""

from __future__ import annotations

from lerim_jobs.log.projection import find
from lerim_jobs.memory.files.publishing import publish
from lerim_jobs.projects import PROJECTS
from workers.stage import Outcome, StageContext

__all__ = ["run"]


def run(ctx: StageContext) -> Outcome:
    """A dry run leaves the files alone."""
    project = find(ctx.store, PROJECTS, ctx.input["project_id"])
    if project is None or ctx.input.get("dry_run"):
        return Outcome({"written": 0})
    meta = {"job_id": ctx.job_id, "stage": ctx.stage, "attempt": ctx.attempt, "host": ctx.host}
    output, effects = publish(ctx.store, project, meta=meta)
    return Outcome(output, effects)
