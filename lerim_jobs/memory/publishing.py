"""Publishing a project: hand edits become events, memories become files, and the log says what was written.

The publish stage and the commands that change memories by hand both go through here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from lerim_jobs.errors import BadInput, ConflictError
from lerim_jobs.jobs.claims import Effect
from lerim_jobs.log.codec import Recorded, encode
from lerim_jobs.log.events import MemoryArchived, MemoryEdited, ProjectPublished
from lerim_jobs.log.store import Store
from lerim_jobs.memory.memory import Memory, apply, fold
from lerim_jobs.memory.publish import read_edits, write
from lerim_jobs.paths import memory_dir
from lerim_jobs.views.memories import all_memories, memory_stream
from lerim_jobs.views.projection import find
from lerim_jobs.views.projects import PROJECTS, Project, project_stream

__all__ = ["publish", "publish_now"]

_TRIES = 5
_HALF_WRITTEN_S = 10.0


def publish(store: Store, project: Project, now_ms: int) -> tuple[dict[str, Any], list[Effect]]:
    """Bring files and log together; returns what happened and the events that say so, which are not appended yet.

    Files are written before the commit: a crash between leaves files that the next publish recognises as its own.
    Raises BadInput when the project's folder is gone.
    """
    if not Path(project.path).is_dir():
        raise BadInput(f"the folder of project {project.name!r} is gone: {project.path!r}")
    folder = memory_dir(Path(project.path))
    _tidy(folder)
    memories = all_memories(store, project_id=project.project_id)
    found = read_edits(folder, project.files, memories, lambda key, version: _at_version(store, key, version))
    effects: list[Effect] = []
    changes: list[MemoryEdited | MemoryArchived] = [*found.edits, *found.deleted]
    for event in changes:
        memory = memories[event.memory_id]
        effects.append(Effect(memory_stream(event.memory_id), [event], memory.version))
        memories[event.memory_id] = _with(memory, event, now_ms)
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
    return output, effects


def _tidy(folder: Path) -> None:
    """Remove what a killed writer left half-way; a living one needs its file for an instant only."""
    for path in folder.rglob(".lerim-*.tmp"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _HALF_WRITTEN_S:
                path.unlink()


def publish_now(store: Store, project_id: str, *, meta: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`publish` and commit, for a command; what moved meanwhile is looked at again. Raises BadInput, ConflictError."""
    for _ in range(_TRIES):
        project = find(store, PROJECTS, project_id)
        if project is None:
            raise BadInput(f"there is no project {project_id!r}")
        output, effects = publish(store, project, store.now_ms())
        try:
            with store.write() as tx:
                for effect in effects:
                    tx.append(effect.stream, effect.events, expected=effect.expected, meta=meta)
        except ConflictError:
            continue
        return output
    raise ConflictError(f"the memories of {project_id!r} keep changing: try again in a moment")


def _with(memory: Memory, event: MemoryEdited | MemoryArchived, now_ms: int) -> Memory:
    """The memory as it will be once the event is in the log."""
    row = Recorded(0, "", "", memory.version + 1, type(event).__name__, 1, encode(event), {}, now_ms)
    return apply(memory, row) or memory


def _at_version(store: Store, memory_id: str, version: int) -> Memory | None:
    rows = [row for row in store.read(memory_stream(memory_id)) if row.version <= version]
    return fold(rows) if rows and rows[-1].version == version else None
