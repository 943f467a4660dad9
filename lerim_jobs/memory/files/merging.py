"""Three versions of a memory, field by field: what it was, what a person made of it, what it is by now."""

from __future__ import annotations

from typing import Any

import msgspec

from lerim_jobs.log.events import MemoryEdited, MemoryKind
from lerim_jobs.memory.files.markdown import Parsed, clean, one_line, proof
from lerim_jobs.memory.memory import Memory

__all__ = ["Content", "Merged", "content_of", "merge", "with_theirs"]


class Content(msgspec.Struct, frozen=True):
    """What a person can change."""

    title: str
    body: str
    confidence: float
    tags: list[str]
    kind: MemoryKind

    def edit(self, memory_id: str) -> MemoryEdited:
        """The memory says this from now on."""
        return MemoryEdited(memory_id, **msgspec.structs.asdict(self))


class Merged(msgspec.Struct, frozen=True):
    """Both changes together; `overlaps` names the fields that both changed, each in its own way: there it has theirs."""

    content: Content
    overlaps: list[str]


def content_of(memory: Memory) -> Content:
    """As a file would say it."""
    tags = [tag for tag in dict.fromkeys(map(one_line, memory.tags)) if tag]
    return Content(one_line(memory.title), clean(memory.body).strip(), memory.confidence, tags, memory.kind)


def with_theirs(base: Memory, found: Parsed) -> Content:
    """The base with everything the file says; words that were written below the proof join the body."""
    given = {name: getattr(found, name) for name in ("title", "confidence", "tags", "kind")}
    known = {name: value for name, value in given.items() if value is not None}
    if found.undivided is not None and not base.quotes:
        body = found.undivided
    else:
        added = _below_the_proof(found.proof, proof(base))
        body = "\n\n".join(part for part in (found.body, added) if part)
    return msgspec.structs.replace(content_of(base), **known, body=body)


def merge(base: Content, theirs: Content, ours: Content) -> Merged:
    """Changes of different fields go together; tags are added and taken away one by one."""
    fields: dict[str, Any] = {}
    overlaps = []
    for name in Content.__struct_fields__:
        was, mine, now = (getattr(one, name) for one in (base, theirs, ours))
        fields[name] = now if mine == was else mine
        if name == "tags" and was != now:
            kept = [tag for tag in now if tag in mine or tag not in was]
            fields[name] = kept + [tag for tag in mine if tag not in was and tag not in now]
        elif was != mine != now != was:
            overlaps.append(name)
    return Merged(Content(**fields), overlaps)


def _below_the_proof(found: str, expected: str) -> str:
    """What a person wrote under our part of the file; quotes themselves cannot be changed."""
    ours = set(expected.split("\n"))
    if not any(line.strip() and line not in ours and not line.startswith(">") for line in found.split("\n")):
        return ""
    return "\n".join(line for line in found.split("\n") if line not in ours or not line.strip()).strip()
