"""Streams `memory-<memory_id>`: how a memory came to be and what was changed."""

from __future__ import annotations

from typing import Literal

import msgspec

from lerim_jobs.log.events.event import Event

__all__ = [
    "MemoryAdded",
    "MemoryArchived",
    "MemoryEdited",
    "MemoryEvent",
    "MemoryKind",
    "MemoryMerged",
    "MemoryRedacted",
    "MemoryRestored",
    "MemoryReverted",
    "MemoryStatus",
    "MemoryUpdated",
    "Quote",
]

MemoryKind = Literal["decision", "insight", "procedure", "friction", "pitfall", "preference", "summary"]
MemoryStatus = Literal["active", "archived", "merged", "undone", "redacted"]


class Quote(msgspec.Struct, frozen=True, omit_defaults=True):
    """Proof: words that stand in the stored transcript. `turn` is the session's kept-turn number."""

    text: str
    session_id: str
    stream: str
    agent: str
    turn: int
    speaker: str
    at_ms: int | None = None


class MemoryAdded(Event, frozen=True):
    """A memory was created, by an agent's accepted proposal or by hand: then it may have no quote."""

    memory_id: str
    project_id: str
    kind: MemoryKind
    title: str
    body: str
    confidence: float
    tags: list[str] = []
    quotes: list[Quote] = []
    session_id: str | None = None
    agent: str | None = None
    model: str | None = None
    reason: str = ""
    by_hand: bool = False


class MemoryUpdated(Event, frozen=True):
    """New title, body, confidence and tags; `quotes` are added to those it had."""

    memory_id: str
    title: str
    body: str
    confidence: float
    tags: list[str] = []
    quotes: list[Quote] = []
    session_id: str | None = None
    model: str | None = None
    reason: str = ""


class MemoryMerged(Event, frozen=True):
    """This memory went into another one, which carries its quotes on."""

    memory_id: str
    into: str
    reason: str = ""


class MemoryArchived(Event, frozen=True):
    """The memory is kept but no longer searched or shown by default. `superseded_by` names the one that is true instead."""

    memory_id: str
    reason: str = ""
    superseded_by: str | None = None


class MemoryRestored(Event, frozen=True):
    """An archived memory is active again."""

    memory_id: str
    reason: str = ""


class MemoryEdited(Event, frozen=True):
    """Someone changed the memory by hand, in its markdown file or by command. `kind` None: as it was."""

    memory_id: str
    title: str
    body: str
    confidence: float
    tags: list[str] = []
    kind: MemoryKind | None = None


class MemoryReverted(Event, frozen=True):
    """The memory is again what it was at `to_version`; 0: before it was added, so it is `undone`.

    Everything is said, not derived, so that the fold never has to look back. `job_id` names the job that was undone.
    """

    memory_id: str
    to_version: int
    status: MemoryStatus
    kind: MemoryKind
    title: str
    body: str
    confidence: float
    tags: list[str] = []
    quotes: list[Quote] = []
    merged_into: str | None = None
    session_id: str | None = None
    agent: str | None = None
    model: str | None = None
    by_hand: bool = False
    job_id: str | None = None
    reason: str = ""
    superseded_by: str | None = None


class MemoryRedacted(Event, frozen=True):
    """What the memory said was removed from everywhere, its own earlier events included. What is left says only that."""

    memory_id: str
    reason: str = ""


MemoryEvent = (
    MemoryAdded
    | MemoryUpdated
    | MemoryMerged
    | MemoryArchived
    | MemoryRestored
    | MemoryEdited
    | MemoryReverted
    | MemoryRedacted
)
