"""One file of a known memory: what a person changed in it since the version it names, beside what changed meanwhile."""

from __future__ import annotations

from typing import Literal

from lerim_jobs.ids import digest
from lerim_jobs.log.events import Event, MemoryArchived, MemoryRestored
from lerim_jobs.memory.files.changes import Changes
from lerim_jobs.memory.files.folder import CONFLICT, exists
from lerim_jobs.memory.files.markdown import Parsed, place
from lerim_jobs.memory.files.merging import content_of, merge, with_theirs
from lerim_jobs.memory.files.states import FileState
from lerim_jobs.memory.memory import Memory

__all__ = ["as_checked_out", "beside", "read_edit"]

Wish = Literal["active", "archived"] | None


def beside(path: str) -> str:
    """Where our version is put when a file and the log say different things."""
    return path.removesuffix(".md") + CONFLICT


def read_edit(changes: Changes, state: FileState, path: str, parsed: Parsed) -> None:
    """Find the edit, if it is one, and what to do with it."""
    memory = changes.known.memory(state.memory_id)
    if memory is None:
        return
    base = _base(changes, memory, state, parsed)
    theirs, wish = with_theirs(base, parsed), _wish(base, path, parsed)
    if theirs == content_of(base) and wish is None:
        _unchanged(changes, state, path, is_newest=base.version == memory.version)
    elif memory.status in ("undone", "redacted"):
        changes.leave(path, f"it was edited, but its memory is {memory.status}: left alone", state.memory_id)
    else:
        merged = merge(content_of(base), theirs, content_of(memory))
        is_known, ours = state.conflict == memory.version, (beside(path), beside(state.path))
        if merged.overlaps and not (is_known and not any(exists(changes.found.folder, one) for one in ours)):
            # where the file was moved, our version is put beside it again
            _keep_both(changes, memory, base, path, merged.overlaps, is_known=is_known and path == state.path)
            return
        content = merged.content
        events: list[Event] = [*_status_events(changes, memory, base, path, wish, is_edited=theirs != content_of(base))]
        if content != content_of(memory):
            events.append(content.edit(state.memory_id))
            changes.counts["edited"] += 1
        if events:
            changes.add(state.memory_id, memory.version, *events)
        changes.seen[state.memory_id] = digest(changes.found.changed[path])


def as_checked_out(changes: Changes, state: FileState, path: str, parsed: Parsed) -> bool:
    """Whether git put the file there: words of some version of its memory, right after git changed files. It is then kept as it
    is until the memory changes, so that git can always go back; where it lies is no wish either.
    """
    memory = changes.known.memory(state.memory_id) if changes.is_switched else None
    if memory is None or memory.status in ("undone", "redacted") or state.version != state.published or state.conflict:
        return False
    base = _base(changes, memory, state, parsed)
    if with_theirs(base, parsed) != content_of(base):
        return False
    changes.held[state.memory_id] = path, digest(changes.found.changed[path])
    return True


def _base(changes: Changes, memory: Memory, state: FileState, parsed: Parsed) -> Memory:
    """The version the person began with: the one the file names, else the one published last."""
    for version in (parsed.version, state.published):
        if version is not None and 0 < version < memory.version:
            then = changes.known.at_version(memory.memory_id, version)
            if then is not None:
                return then
        elif version == memory.version:
            return memory
    return memory


def _wish(base: Memory, path: str, parsed: Parsed) -> Wish:
    """A file that was moved into archived/ or out of it, or whose `status` line was changed."""
    was: Wish = "active" if base.status == "active" else "archived"
    lies: Wish = "archived" if place(path)[1] else "active"
    if lies != was:
        return lies
    said: Wish = "active" if parsed.status == "active" else "archived"
    return said if parsed.status in ("active", "archived") and said != was else None


def _unchanged(changes: Changes, state: FileState, path: str, *, is_newest: bool) -> None:
    """The words of some version; when it is the published one, only white space or line ends differ."""
    if is_newest and state.is_here and state.published == state.version and path == state.path and state.has_file:
        changes.same[path] = state.digest
    else:
        changes.seen[state.memory_id] = digest(changes.found.changed[path])


def _keep_both(
    changes: Changes, memory: Memory, base: Memory, path: str, overlaps: list[str], *, is_known: bool
) -> None:
    changes.left.add(memory.memory_id)
    if not is_known:
        changes.beside[memory.memory_id] = memory
    changes.counts["conflicts"] += 1
    changes.say(
        path,
        f"{' and '.join(overlaps)} changed by hand since version {base.version}, and otherwise in version "
        f"{memory.version}: both are kept, ours in {beside(path)}. Take over what you want, then delete that file",
    )


def _status_events(
    changes: Changes, memory: Memory, base: Memory, path: str, wish: Wish, *, is_edited: bool
) -> list[MemoryArchived | MemoryRestored]:
    memory_id = memory.memory_id
    if wish == "archived" and memory.status == "active":
        changes.counts["archived"] += 1
        return [MemoryArchived(memory_id, "its file was moved to archived/")]
    if wish == "active" and memory.status != "active":
        changes.counts["restored"] += 1
        return [MemoryRestored(memory_id, "its file was moved out of archived/")]
    if is_edited and wish is None and base.status == "active" and memory.status != "active":
        changes.counts["restored"] += 1
        if memory.status == "merged":
            changes.say(path, f"edited by hand, but merged into {memory.merged_into!r} meanwhile: both are kept")
        return [MemoryRestored(memory_id, f"its file was edited while it was {memory.status}")]
    return []
