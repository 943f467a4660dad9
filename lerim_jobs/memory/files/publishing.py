"""Publishing a project: hand edits become events, memories become files, and the log says what was written.

The publish stage and the commands that change memories by hand both go through here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lerim_jobs.clock import now_ns
from lerim_jobs.errors import BadInput, ConflictError
from lerim_jobs.git.checkout import checkout_of, has_been, let_git_finish
from lerim_jobs.git.moves import taken_since
from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.log.events import ProjectPublished, PublishedFile
from lerim_jobs.log.projection import find
from lerim_jobs.log.store import Store
from lerim_jobs.machine.whole_file import Fsync
from lerim_jobs.memory.files import looks
from lerim_jobs.memory.files.changes import Changes, Known, Problem
from lerim_jobs.memory.files.reading import read_changes
from lerim_jobs.memory.files.states import file_states
from lerim_jobs.memory.files.survey import survey
from lerim_jobs.memory.files.writing import write
from lerim_jobs.memory.memory import Memory, fold
from lerim_jobs.memory.stored import load_memories, memory_stream
from lerim_jobs.paths import memory_dir
from lerim_jobs.projects import PROJECTS, Project, project_stream

__all__ = ["publish", "publish_now"]

_TRIES = 5
_FILES_AN_EVENT = 500
_MOST_PROBLEMS = 100
_COUNTS = ("added", "edited", "archived", "restored", "moved", "deleted", "conflicts")


def publish(
    store: Store, project: Project, *, meta: Mapping[str, Any] | None = None, fsync: Fsync = os.fsync
) -> tuple[dict[str, Any], list[Effect]]:
    """Bring files and log together; returns what happened, and the events about files, which are not appended yet.

    What people did is appended here, before any file is written: files must never name a version that the log does not
    have. Each event expects its memory's version and says what the file says, so a repeat finds nothing left to append.
    A crash later leaves files that the next publish recognises as its own. On return the files outlive a power cut: one that
    the log names and the disk has lost would look like somebody's deletion. Raises BadInput when the project's folder is
    gone, ConflictError when a memory moved meanwhile.
    """
    path = Path(project.path)
    if not os.path.isdir(path):
        raise BadInput(f"the folder of project {project.name!r} is gone: {project.path!r}")
    folder = memory_dir(path)
    before, found = checkout_of(folder), survey(store, project)
    if found.missing:
        let_git_finish(folder)
    after = checkout_of(folder)
    is_busy = before.is_busy or after.is_busy or before.text != after.text
    is_switched = after.text != "" and {before.text, after.text} != {project.checkout}
    # where all are gone and another repository lies here, such as a fresh clone, none was taken from it
    is_told = is_switched and (not found.is_nowhere() or has_been(folder, project.checkout))
    changes = read_changes(
        project.project_id,
        found,
        _known(store),
        is_taken=taken_since(folder, project.checkout, after) if is_told else None,
        is_busy=is_busy,
    )
    states = found.states
    if changes.events:
        _append(store, changes, meta)
        states = file_states(store, project.project_id)
    written = write(changes, states, lambda ids: load_memories(store, ids), fsync)
    _remember(store, changes)
    output = {
        "written": written.written,
        "removed": written.removed,
        **{name: changes.counts[name] for name in _COUNTS},
        "problems": _told([*changes.problems, *written.problems]),
    }
    # what git has begun counts as seen when it is through: until then a missing file is not decided
    return output, _effects(project, written.files, "" if is_busy else after.text)


def publish_now(
    store: Store, project_id: str, *, meta: Mapping[str, Any] | None = None, fsync: Fsync = os.fsync
) -> dict[str, Any]:
    """`publish` and commit, for a command; what moved meanwhile is looked at again. Raises BadInput, ConflictError."""
    for _ in range(_TRIES):
        project = find(store, PROJECTS, project_id)
        if project is None:
            raise BadInput(f"there is no project {project_id!r}")
        try:
            output, effects = publish(store, project, meta=meta, fsync=fsync)
            if effects:
                with store.write() as tx:
                    for effect in effects:
                        tx.append(effect.stream, effect.events, expected=effect.expected, meta=meta)
        except ConflictError:
            continue
        return output
    raise ConflictError(f"the memories of {project_id!r} keep changing: try again in a moment")


def _told(problems: list[Problem]) -> list[dict[str, str]]:
    more = len(problems) - _MOST_PROBLEMS
    told = [*problems[:_MOST_PROBLEMS], Problem("...", f"and {more} more files")] if more > 0 else problems
    return [{"path": one.path, "problem": one.problem} for one in told]


def _append(store: Store, changes: Changes, meta: Mapping[str, Any] | None) -> None:
    with store.write() as tx:
        for memory_id, events in changes.events.items():
            tx.append(memory_stream(memory_id), events, expected=changes.versions[memory_id], meta=meta)


def _remember(store: Store, changes: Changes) -> None:
    """Files that say nothing new, or nothing for us, are not read again until they look different."""
    now = changes.found.scan.files
    new: dict[str, Any] = {path: (now[path], known) for path, known in changes.same.items()}
    new |= {path: (now[path], looks.LEFT_ALONE) for path in changes.alone if path in now}
    looks.save(store, changes.project_id, new, now_ns=now_ns())


def _effects(project: Project, files: list[PublishedFile], checkout: str) -> list[Effect]:
    parts = [files[start : start + _FILES_AN_EVENT] for start in range(0, len(files), _FILES_AN_EVENT)]
    if not parts and checkout in ("", project.checkout):
        return []
    events = [ProjectPublished(project.project_id, part, checkout) for part in parts or [[]]]
    return [Effect(project_stream(project.project_id), events, project.version)]


def _known(store: Store) -> Known:
    def memory(memory_id: str) -> Memory | None:
        return next(iter(load_memories(store, [memory_id])), None)

    def at_version(memory_id: str, version: int) -> Memory | None:
        rows = [row for row in store.read(memory_stream(memory_id)) if row.version <= version]
        return fold(rows) if rows and rows[-1].version == version else None

    return Known(memory, at_version, lambda memory_id: bool(store.read(memory_stream(memory_id))))
