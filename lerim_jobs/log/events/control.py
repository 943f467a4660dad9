"""Streams of the whole installation: `budget`, `control-queues`, `redactions`."""

from __future__ import annotations

from lerim_jobs.log.events.event import Event

__all__ = [
    "CAPS_STREAM",
    "CapsChanged",
    "ControlEvent",
    "QueuePaused",
    "QueueResumed",
    "RedactionApplied",
]

CAPS_STREAM = "budget"


class CapsChanged(Event, frozen=True):
    """Calls were let out under these caps from now on; None: no cap. Dollars, and tokens where no price is known."""

    per_job_usd: float | None
    per_day_usd: float | None
    per_role_usd: dict[str, float | None]
    per_job_unpriced_tokens: float | None
    per_day_unpriced_tokens: float | None


class QueuePaused(Event, frozen=True):
    """No stage of the queue starts before QueueResumed; `*` stands for every queue."""

    queue: str


class QueueResumed(Event, frozen=True):
    """Stages of the queue may start again."""

    queue: str


class RedactionApplied(Event, frozen=True):
    """Texts were removed from everything stored, earlier events included: so many pieces, in so many events and blobs.

    What they were is not kept: `pattern_hash` is the SHA-256 of the pattern, `memory_id` the memory whose texts they were.
    """

    hits: int
    events: int
    blobs: int
    memory_id: str | None = None
    pattern_hash: str | None = None


ControlEvent = QueuePaused | QueueResumed
