"""Changing memories by command: the same events as hand edits, each for the version it was decided on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lerim_jobs.errors import BadInput, ConflictError
from lerim_jobs.ids import derived
from lerim_jobs.log.events import (
    Event,
    MemoryAdded,
    MemoryArchived,
    MemoryRestored,
    ProjectPublished,
    PublishedFile,
)
from lerim_jobs.log.store import Store
from lerim_jobs.memory.files.markdown import MAX_BODY, MAX_TAGS, MAX_TITLE, clean, one_line
from lerim_jobs.memory.files.merging import Content, content_of, merge
from lerim_jobs.memory.files.states import files_of
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.stored import all_memories, load_memories, memory_stream
from lerim_jobs.projects import project_stream

__all__ = ["add", "archive", "checked", "edit", "restore", "same_content"]

_TRIES = 5


def checked(content: Content) -> Content:
    """The content as it will be kept. Raises BadInput for what a file could not hold."""
    title, tags = one_line(content.title), [one_line(tag) for tag in content.tags]
    if not title or len(title) > MAX_TITLE:
        raise BadInput(f"the title must have 1 to {MAX_TITLE} characters")
    if len(content.body) > MAX_BODY:
        raise BadInput(f"the body is longer than {MAX_BODY // 1024} KiB")
    if not 0 <= content.confidence <= 1:
        raise BadInput("the confidence must be between 0 and 1")
    tags = [tag for tag in dict.fromkeys(tags) if tag]
    if len(tags) > MAX_TAGS:
        raise BadInput(f"a memory has at most {MAX_TAGS} tags")
    return Content(title, clean(content.body).strip(), content.confidence, tags, content.kind)


def same_content(memory: Memory, content: Content) -> bool:
    """Whether the memory says just this."""
    return (memory.kind, one_line(memory.title), clean(memory.body).strip()) == (
        content.kind,
        content.title,
        content.body,
    )


def add(store: Store, project_id: str, content: Content, *, meta: Mapping[str, Any]) -> tuple[Memory, bool]:
    """A new memory, or the active one that says the same already; and whether it is new."""
    content = checked(content)
    for _ in range(_TRIES):
        known = all_memories(store, project_id=project_id)
        for memory in known.values():
            if memory.status == "active" and same_content(memory, content):
                return memory, False
        memory_id = _free_id(store, project_id, content)
        added = MemoryAdded(memory_id, project_id, reason="added by hand", by_hand=True, **_told(content))
        try:
            store.append(memory_stream(memory_id), [added], expected=0, meta=meta)
        except ConflictError:
            continue
        return load_memories(store, [memory_id])[0], True
    raise ConflictError("somebody else adds the same memory: try again in a moment")


def edit(store: Store, base: Memory, content: Content, *, meta: Mapping[str, Any]) -> Memory:
    """Change what the memory says. What changed since `base` was read is kept too; raises ConflictError where it overlaps."""
    content = checked(content)
    for _ in range(_TRIES):
        memory = _usable(store, base.memory_id)
        merged = merge(content_of(base), content, content_of(memory))
        if merged.overlaps:
            raise ConflictError(
                f"{' and '.join(merged.overlaps)} of {memory.memory_id} changed meanwhile (version {memory.version}): "
                "look at it and try again"
            )
        if merged.content == content_of(memory):
            return memory
        if _append(store, memory, merged.content.edit(memory.memory_id), meta):
            return load_memories(store, [memory.memory_id])[0]
    raise ConflictError(f"{base.memory_id} keeps changing: try again in a moment")


def archive(store: Store, memory_id: str, reason: str, *, meta: Mapping[str, Any]) -> Memory:
    """Keep it, but show and search it no longer. Nothing happens when it is archived already."""
    return _switch(store, memory_id, "archived", MemoryArchived(memory_id, reason), meta)


def restore(store: Store, memory_id: str, reason: str, *, meta: Mapping[str, Any]) -> Memory:
    """Make an archived or merged memory active again; of a merged one both are kept then. Where only another branch has its file,
    it gets one here as well.
    """
    memory = _switch(store, memory_id, "active", MemoryRestored(memory_id, reason), meta)
    state = files_of(store, [memory_id])[memory_id]
    if state.is_elsewhere:
        file = PublishedFile(memory_id, "", "", 0)
        store.append(project_stream(memory.project_id), [ProjectPublished(memory.project_id, [file])], meta=meta)
    return memory


def _switch(store: Store, memory_id: str, to: str, event: Event, meta: Mapping[str, Any]) -> Memory:
    for _ in range(_TRIES):
        memory = _usable(store, memory_id)
        if memory.status == to or (to == "archived" and memory.status != "active"):
            return memory
        if _append(store, memory, event, meta):
            return load_memories(store, [memory_id])[0]
    raise ConflictError(f"{memory_id} keeps changing: try again in a moment")


def _usable(store: Store, memory_id: str) -> Memory:
    memory = load_memories(store, [memory_id])[0]
    if memory.status in ("undone", "redacted"):
        raise BadInput(f"memory {memory_id} is {memory.status}: `lerim memory history {memory_id}` tells why")
    return memory


def _append(store: Store, memory: Memory, event: Event, meta: Mapping[str, Any]) -> bool:
    try:
        store.append(memory_stream(memory.memory_id), [event], expected=memory.version, meta=meta)
    except ConflictError:
        return False
    return True


def _free_id(store: Store, project_id: str, content: Content) -> str:
    number = 0
    while True:
        memory_id = derived("added", project_id, content.kind, content.title, content.body, str(number))
        if not store.read(memory_stream(memory_id)):
            return memory_id
        number += 1


def _told(content: Content) -> dict[str, Any]:
    return msgspec.structs.asdict(content)
