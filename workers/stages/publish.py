"""publish: hand edits become events, then memories become markdown files in the project.

Reads   the project's memory folder, its memories, what was published last
Writes  MemoryEdited and MemoryArchived for what people did, ProjectPublished for what was written
Raises  BadInput when the project's folder is gone, ConflictError (a memory moved meanwhile: decided again)
"""

from __future__ import annotations

from lerim_jobs.memory.publishing import publish
from lerim_jobs.views.projection import find
from lerim_jobs.views.projects import PROJECTS
from workers.context import Outcome, StageContext

__all__ = ["run"]


def run(ctx: StageContext) -> Outcome:
    """A dry run leaves the files alone."""
    project = find(ctx.store, PROJECTS, ctx.input["project_id"])
    if project is None or ctx.input.get("dry_run"):
        return Outcome({"written": 0})
    output, effects = publish(ctx.store, project, ctx.now_ms)
    return Outcome(output, effects)
