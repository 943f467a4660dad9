"""What people did to a project's memory files since they were published.

A file whose words are those of any version of its memory was not edited. Anything else is a person's: changed words, a new file,
a file that was moved, renamed or deleted. Where the memory changed meanwhile too, changes of different fields go together;
where both changed the same, both are kept and it is said so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from lerim_jobs.ids import derived, digest
from lerim_jobs.log.events import MemoryAdded, MemoryArchived, MemoryKind
from lerim_jobs.memory.files.changes import Changes, Known
from lerim_jobs.memory.files.edits import as_checked_out, read_edit
from lerim_jobs.memory.files.markdown import MAX_TITLE, BadFile, Parsed, one_line, parse, place
from lerim_jobs.memory.files.survey import Survey

__all__ = ["new_memory", "read_changes"]

_BUSY = "git is in the middle of something (a lock, or a merge or rebase that waits): missing files, {}, are looked at afterwards"
_OTHERS = "memory {!r} belongs to another project; left alone. If that project lies here now: `lerim project move`"
_UNKNOWN = "no memory has the id {!r}; left alone. `lerim memory import` with this folder takes such files in"


def read_changes(
    project_id: str,
    found: Survey,
    known: Known,
    *,
    is_taken: Callable[[str], bool] | None = None,
    is_busy: bool = False,
) -> Changes:
    """Compare; nothing is written. With `is_taken` git has changed files since the last look: it says of a missing one whether
    the branch lacks it. While git `is_busy` a missing one says nothing yet.
    """
    changes = Changes(project_id, found, known, is_busy or is_taken is not None)
    owners = {state.path: state for state in found.states.values() if state.path}
    for path, problem in {**found.scan.odd, **found.unread}.items():
        changes.leave(path, problem, owners[path].memory_id if path in owners else None)
    homeless = found.missing | {key for key, state in found.states.items() if not state.is_here}
    strangers: list[tuple[str, Parsed]] = []
    for path, data in sorted(found.changed.items()):
        owner, parsed = owners.get(path), parse(data)
        owner_id = owner.memory_id if owner else None
        if isinstance(parsed, BadFile):
            changes.leave(path, f"line {parsed.line}: {parsed.problem}; left alone", owner_id)
        elif owner and parsed.memory_id == owner_id:
            if not as_checked_out(changes, owner, path, parsed):
                read_edit(changes, owner, path, parsed)
        elif owner and parsed.memory_id not in found.states:
            changes.leave(path, "its id was taken out or changed; left alone", owner_id)
        else:
            homeless |= {owner_id} if owner_id else set()
            strangers.append((path, parsed))
    _strangers(changes, strangers, homeless)
    missing = found.missing - changes.paths.keys() - changes.held.keys()
    if missing and is_busy:
        changes.say(".", _BUSY.format(len(missing)))
        changes.left |= missing
        return changes
    if is_taken:
        changes.lacking = {key for key in missing if is_taken(found.states[key].path)}
    if not found.is_nowhere(apart=changes.lacking):
        _deleted(changes, missing - changes.lacking)
    return changes


def new_memory(project_id: str, memory_id: str, path: str, parsed: Parsed) -> MemoryAdded:
    """A memory that a person wrote: the file says what it is, its folder and name say the rest."""
    kind: MemoryKind = parsed.kind or place(path)[0] or "insight"
    named = one_line(PurePosixPath(path).stem.replace("-", " ").replace("_", " "))[:MAX_TITLE]
    return MemoryAdded(
        memory_id,
        project_id,
        kind,
        parsed.title or named or "untitled",
        parsed.body,
        1.0 if parsed.confidence is None else parsed.confidence,
        parsed.tags or [],
        reason="written by hand",
        by_hand=True,
    )


def _strangers(changes: Changes, strangers: list[tuple[str, Parsed]], homeless: set[str]) -> None:
    """Files at places where nothing was published: new ones, and known ones that moved. Unchanged ones come first, so that
    of two files with one id the edited one is the copy.
    """
    states = changes.found.states
    for path, parsed in sorted(strangers, key=lambda one: (not _is_as_published(changes, *one), one[0])):
        state = states.get(parsed.memory_id or "")
        if parsed.memory_id is None:
            _new(changes, path, parsed)
        elif state is None:
            problem = _OTHERS if changes.known.is_taken(parsed.memory_id) else _UNKNOWN
            changes.leave(path, problem.format(parsed.memory_id))
        elif state.memory_id not in homeless or state.memory_id in {*changes.paths, *changes.held}:
            held, _ = changes.held.get(state.memory_id, (state.path, ""))
            where = changes.paths.get(state.memory_id, held)
            changes.leave(path, f"a copy: memory {state.memory_id} is in {where!r}; left alone")
        elif not as_checked_out(changes, state, path, parsed):
            changes.paths[state.memory_id] = path
            changes.counts["moved"] += state.path not in ("", path)
            read_edit(changes, state, path, parsed)


def _is_as_published(changes: Changes, path: str, parsed: Parsed) -> bool:
    state = changes.found.states.get(parsed.memory_id or "")
    return state is not None and digest(changes.found.changed[path]) == state.digest


def _new(changes: Changes, path: str, parsed: Parsed) -> None:
    kind, is_archived = place(path)
    if kind is None:
        changes.leave(path, "not in decisions/, learnings/ or summaries/: left alone")
        return
    if not (parsed.body or parsed.title):
        changes.leave(path, "it is empty: left alone")
        return
    memory_id, is_known = _id_for(changes, path)
    changes.paths[memory_id] = path
    changes.seen[memory_id] = digest(changes.found.changed[path])
    if not is_known:
        changes.add(memory_id, 0, new_memory(changes.project_id, memory_id, path, parsed))
        if is_archived:
            changes.add(memory_id, 0, MemoryArchived(memory_id, "written into archived/"))
        changes.counts["added"] += 1


def _id_for(changes: Changes, path: str) -> tuple[str, bool]:
    """An id derived from the file, so that a publish which died half-way finds the memory it had added."""
    data, number = changes.found.changed[path], 0
    while True:
        memory_id = derived("by hand", changes.project_id, path, digest(data), str(number))
        state = changes.found.states.get(memory_id)
        if state is not None and not state.path and state.published == 0:
            return memory_id, True
        if memory_id not in changes.events and not changes.known.is_taken(memory_id):
            return memory_id, False
        number += 1


def _deleted(changes: Changes, missing: set[str]) -> None:
    for memory_id in sorted(missing):
        state = changes.found.states[memory_id]
        if state.path and state.status == "active":
            changes.add(memory_id, state.version, MemoryArchived(memory_id, "its file was deleted"))
            changes.counts["deleted"] += 1
        elif state.path:
            changes.gone.add(memory_id)
