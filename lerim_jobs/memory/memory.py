"""A memory as its stream tells it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, assert_never, cast

import msgspec

from lerim_jobs.ids import digest
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    MemoryAdded,
    MemoryArchived,
    MemoryEdited,
    MemoryEvent,
    MemoryKind,
    MemoryMerged,
    MemoryRedacted,
    MemoryRestored,
    MemoryReverted,
    MemoryStatus,
    MemoryUpdated,
    Quote,
)
from lerim_jobs.log.scan import readable
from lerim_jobs.sessions.transcript import REDACTED

_SUPERSEDED = re.compile(r"superseded by ([0-9a-f]{16}):")
__all__ = ["REDACTED", "By", "Memory", "apply", "content_hash", "fold", "replaced_by", "said_ms"]


By = Literal["said", "log"]
"""What an earlier time goes by: when things were said, or when the log got them."""


class Memory(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known, and what proves it. `version` counts its events; `job_id`, `trace_id` and `span_id` lead to the
    model call behind the newest change an agent made.

    `created_ms` and `updated_ms` are the log's times. `accessed_ms` is when it was last said, edited or restored.
    """

    memory_id: str
    project_id: str
    kind: MemoryKind
    title: str
    body: str
    confidence: float
    version: int
    created_ms: int
    updated_ms: int
    accessed_ms: int
    tags: list[str] = []
    quotes: list[Quote] = []
    status: MemoryStatus = "active"
    merged_into: str | None = None
    superseded_by: str | None = None
    """The memory that is true instead of this archived one."""
    session_id: str | None = None
    agent: str | None = None
    model: str | None = None
    job_id: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    reason: str = ""
    by_hand: bool = False

    @property
    def said_ms(self) -> int | None:
        """When it was last said; None where no quote has a time."""
        return said_ms(self.quotes, self.updated_ms)

    @property
    def dated_ms(self) -> int:
        """The time it goes by: when it was last said, or, of what nobody said at a known time, when it was kept."""
        at_ms = self.said_ms
        return self.created_ms if at_ms is None else at_ms

    @property
    def begun_ms(self) -> int:
        """When it was first said, or, of what nobody said at a known time, when it was kept."""
        return min((quote.at_ms for quote in self.quotes if quote.at_ms is not None), default=self.created_ms)


def content_hash(memory: Memory) -> str:
    """What the memory says and whether it counts, as 64 hex digits: equal after an undo, whatever happened between."""
    said = (memory.kind, memory.title, memory.body, memory.confidence, memory.tags, memory.quotes)
    return digest(msgspec.json.encode((*said, memory.status, memory.merged_into)))


def fold(events: list[Recorded]) -> Memory | None:
    """The memory after all these events that can be read, None before the first."""
    memory: Memory | None = None
    for row in readable(events):
        memory = apply(memory, row)
    return memory


def apply(memory: Memory | None, row: Recorded) -> Memory | None:
    """The memory after one more event; events this version does not know change nothing."""
    event = cast("MemoryEvent | None", row.event)
    if isinstance(event, MemoryAdded):
        return _added(event, row)
    if memory is None or event is None:
        return memory
    memory = msgspec.structs.replace(memory, version=row.version, updated_ms=row.at_ms)
    if memory.status == "redacted":
        return memory  # whatever came too late: what was removed does not come back
    return _changed(memory, event, row)


def _changed(memory: Memory, event: MemoryEvent, row: Recorded) -> Memory:
    match event:
        case MemoryAdded():
            return _added(event, row)
        case MemoryUpdated():
            return _updated(memory, event, row)
        case MemoryEdited():
            return msgspec.structs.replace(
                memory,
                title=event.title,
                body=event.body,
                confidence=event.confidence,
                tags=event.tags,
                kind=event.kind or memory.kind,
                accessed_ms=row.at_ms,
                by_hand=True,
            )
        case MemoryMerged():
            return msgspec.structs.replace(memory, status="merged", merged_into=event.into, reason=event.reason)
        case MemoryArchived():
            return msgspec.structs.replace(
                memory, status="archived", reason=event.reason, superseded_by=replaced_by(event)
            )
        case MemoryRestored():
            back: dict[str, Any] = {
                "status": "active",
                "merged_into": None,
                "superseded_by": None,
                "reason": event.reason,
            }
            return msgspec.structs.replace(memory, accessed_ms=row.at_ms, **back)
        case MemoryReverted():
            return _reverted(memory, event)
        case MemoryRedacted():
            gone: dict[str, Any] = {"title": REDACTED, "body": REDACTED, "tags": [], "quotes": [], "merged_into": None}
            return msgspec.structs.replace(memory, status="redacted", reason=event.reason, **gone)
        case _:
            assert_never(event)


def replaced_by(event: MemoryArchived) -> str | None:
    """The memory that is true instead; events of earlier versions say it in their reason alone."""
    found = _SUPERSEDED.match(event.reason)
    return event.superseded_by or (found[1] if found else None)


def said_ms(quotes: Sequence[Quote], at_most_ms: int) -> int | None:
    """When the newest was said, None where no quote has a time; a clock that ran ahead says nothing of what is still to come."""
    times = [quote.at_ms for quote in quotes if quote.at_ms is not None]
    return min(max(times), at_most_ms) if times else None


def _used(quotes: list[Quote], row: Recorded) -> int:
    """When what an event brings was said; of what nobody said at a known time, when the log got it."""
    at_ms = said_ms(quotes, row.at_ms)
    return row.at_ms if at_ms is None else at_ms


def _added(event: MemoryAdded, row: Recorded) -> Memory:
    return Memory(
        memory_id=event.memory_id,
        project_id=event.project_id,
        kind=event.kind,
        title=event.title,
        body=event.body,
        confidence=event.confidence,
        version=row.version,
        created_ms=row.at_ms,
        updated_ms=row.at_ms,
        accessed_ms=_used(event.quotes, row),
        tags=event.tags,
        quotes=event.quotes,
        session_id=event.session_id,
        agent=event.agent,
        model=event.model,
        reason=event.reason,
        by_hand=event.by_hand,
        job_id=row.meta.get("job_id"),
        trace_id=row.meta.get("trace_id"),
        span_id=row.meta.get("span_id"),
    )


def _reverted(memory: Memory, event: MemoryReverted) -> Memory:
    return msgspec.structs.replace(
        memory,
        status=event.status,
        kind=event.kind,
        title=event.title,
        body=event.body,
        confidence=event.confidence,
        tags=event.tags,
        quotes=event.quotes,
        merged_into=event.merged_into,
        superseded_by=event.superseded_by,
        session_id=event.session_id,
        agent=event.agent,
        model=event.model,
        by_hand=event.by_hand,
        reason=event.reason,
    )


def _updated(memory: Memory, event: MemoryUpdated, row: Recorded) -> Memory:
    known = {(quote.stream, quote.turn, quote.text) for quote in memory.quotes}
    new = [quote for quote in event.quotes if (quote.stream, quote.turn, quote.text) not in known]
    return msgspec.structs.replace(
        memory,
        title=event.title,
        body=event.body,
        confidence=event.confidence,
        tags=event.tags,
        quotes=[*memory.quotes, *new],
        accessed_ms=max(memory.accessed_ms, _used(event.quotes, row)),
        session_id=event.session_id or memory.session_id,
        model=event.model or memory.model,
        reason=event.reason,
        job_id=row.meta.get("job_id"),
        trace_id=row.meta.get("trace_id"),
        span_id=row.meta.get("span_id"),
    )
