"""publish: hand edits become events, then memories become markdown files in the project.

Reads   the project's memory folder, its memories, what was published last
Writes  MemoryEdited and MemoryArchived for what people did, ProjectPublished for what was written
Raises  BadInput when the project's folder is gone, ConflictError (a memory moved meanwhile: decided again)
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from lerim_jobs.errors import BadInput
from lerim_jobs.jobs.claims import Effect
from lerim_jobs.log.codec import Recorded, encode
from lerim_jobs.log.events import MemoryArchived, MemoryEdited, ProjectPublished
from lerim_jobs.log.store import Store
from lerim_jobs.memory.memory import Memory, apply, fold
from lerim_jobs.memory.publish import read_edits, write
from lerim_jobs.paths import memory_dir
from lerim_jobs.views.memories import all_memories, memory_stream
from lerim_jobs.views.projection import find
from lerim_jobs.views.projects import PROJECTS, project_stream
from workers.context import Outcome, StageContext

__all__ = ["run"]


def run(ctx: StageContext) -> Outcome:
    """Files are written before the commit: a crash between leaves files that the next publish recognises as its own."""
    project = find(ctx.store, PROJECTS, ctx.input["project_id"])
    if project is None or ctx.input.get("dry_run"):
        return Outcome({"written": 0})
    if not Path(project.path).is_dir():
        raise BadInput(f"the folder of project {project.name!r} is gone: {project.path!r}")
    folder = memory_dir(Path(project.path))
    memories = all_memories(ctx.store, project_id=project.project_id)
    found = read_edits(folder, project.files, memories, lambda key, version: _at_version(ctx.store, key, version))
    effects: list[Effect] = []
    changes: list[MemoryEdited | MemoryArchived] = [*found.edits, *found.deleted]
    for event in changes:
        memory = memories[event.memory_id]
        effects.append(Effect(memory_stream(event.memory_id), [event], memory.version))
        memories[event.memory_id] = _with(memory, event, ctx.now_ms)
    written = write(folder, memories, project.files)
    if written.files:
        published = ProjectPublished(project.project_id, written.files)
        effects.append(Effect(project_stream(project.project_id), [published], project.version))
    output = {
        "written": len(written.files),
        "edited": len(found.edits),
        "deleted": len(found.deleted),
        "problems": msgspec.to_builtins([*found.problems, *written.problems]),
    }
    return Outcome(output, effects)


def _at_version(store: Store, memory_id: str, version: int) -> Memory | None:
    rows = [row for row in store.read(memory_stream(memory_id)) if row.version <= version]
    return fold(rows) if rows and rows[-1].version == version else None


def _with(memory: Memory, event: MemoryEdited | MemoryArchived, now_ms: int) -> Memory:
    """The memory as it will be once the event is in the log, with the time it is told now."""
    row = Recorded(0, "", "", memory.version + 1, type(event).__name__, 1, encode(event), {}, now_ms)
    return apply(memory, row) or memory
