"""The history of a memory in plain words: what each event changed, by whom, when, and in which trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_never, cast

import msgspec

from lerim_jobs.kinds import found_by_publishing
from lerim_jobs.kinds.kind import family
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    MemoryAdded,
    MemoryArchived,
    MemoryEdited,
    MemoryEvent,
    MemoryMerged,
    MemoryRedacted,
    MemoryRestored,
    MemoryReverted,
    MemoryUpdated,
)
from lerim_jobs.log.scan import readable
from lerim_jobs.memory.memory import Memory, apply, content_hash

__all__ = ["Change", "history"]

_SHOWN = 60


class Change(msgspec.Struct, frozen=True):
    """One event. `by` is a job, the command line or a person; `content_hash` is that of the memory after it."""

    version: int
    type: str
    at_ms: int
    what: str
    details: list[str]
    reason: str
    by: str
    status: str
    content_hash: str
    job_id: str | None = None
    stage: str | None = None
    attempt: int | None = None
    model: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    undo_id: str | None = None


def history(rows: Sequence[Recorded]) -> list[Change]:
    """Every event of the memory, the oldest first; events only a newer version knows are named and no more."""
    found: list[Change] = []
    memory: Memory | None = None
    for row in readable(rows):
        before, memory = memory, apply(memory, row)
        if memory is not None:
            found.append(_change(before, memory, row))
    return found


def _change(before: Memory | None, after: Memory, row: Recorded) -> Change:
    event = cast("MemoryEvent | None", row.event)
    meta = row.meta
    return Change(
        version=row.version,
        type=row.type,
        at_ms=row.at_ms,
        what=_what(event, before),
        details=_details(before, after) if before else [],
        reason=getattr(event, "reason", ""),
        by=_by(event, row),
        status=after.status,
        content_hash=content_hash(after),
        job_id=meta.get("job_id"),
        stage=meta.get("stage"),
        attempt=meta.get("attempt"),
        model=getattr(event, "model", None),
        trace_id=meta.get("trace_id"),
        span_id=meta.get("span_id"),
        undo_id=meta.get("undo_id"),
    )


def _what(event: MemoryEvent | None, before: Memory | None) -> str:
    match event:
        case None:
            return "changed by a newer version of lerim"
        case MemoryAdded():
            return f"added: {_short(event.title)}"
        case MemoryUpdated():
            return "updated"
        case MemoryEdited():
            return "edited by hand"
        case MemoryMerged():
            return f"merged into {event.into}"
        case MemoryArchived():
            return "archived"
        case MemoryRestored():
            return "restored"
        case MemoryReverted():
            return f"undone: back to version {event.to_version}" if event.to_version else "undone: as if never added"
        case MemoryRedacted():
            return "redacted: what it said was removed everywhere"
        case _:
            assert_never(event)


def _details(before: Memory, after: Memory) -> list[str]:
    """Every field that differs, old and new."""
    found = []
    for name in ("kind", "title", "body", "confidence"):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            found.append(f"{name}: {_short(str(old))} -> {_short(str(new))}")
    signed = [*(f"+{tag}" for tag in after.tags if tag not in before.tags)]
    signed += [f"-{tag}" for tag in before.tags if tag not in after.tags]
    if signed:
        found.append(f"tags: {' '.join(signed)}")
    if len(before.quotes) != len(after.quotes):
        found.append(f"quotes: {len(before.quotes)} -> {len(after.quotes)}")
    if before.status != after.status:
        found.append(f"status: {before.status} -> {after.status}")
    return found


def _by(event: MemoryEvent | None, row: Recorded) -> str:
    if isinstance(event, MemoryEdited) or (isinstance(event, MemoryAdded) and event.by_hand):
        return "a person"
    stage = str(row.meta.get("stage", ""))
    if job_id := row.meta.get("job_id"):
        return "a person" if found_by_publishing(stage) else f"job {job_id}, {family(stage)}"
    return "the command line" if row.meta.get("actor") == "cli" else "a person"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line[:_SHOWN]}…"' if len(line) > _SHOWN else f'"{line}"'
