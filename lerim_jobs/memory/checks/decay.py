"""Decay: confidence fades with the days since a memory was last said or used. Computed by code, never by a prompt.

    factor    = max(min_confidence_floor, 1 - days / decay_days)
    effective = confidence * factor
    archive when effective < archive_threshold, but never within the grace days after the last use, nor after the log got it:
    what was said a year ago and is kept today does not vanish tomorrow

Decimals, because binary floats would archive some memories a day early.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from lerim_jobs.config import Decay
from lerim_jobs.memory.memory import Memory

__all__ = ["Decayed", "decide", "effective"]

_DAY_MS = 86_400_000


class Decayed(msgspec.Struct, frozen=True):
    """One calculation with its inputs and its result."""

    memory_id: str
    confidence: float
    days: int
    effective: float
    archive: bool
    reason: str


def effective(confidence: float, days: int, settings: Decay) -> Decimal:
    """The confidence left after so many whole days in which nobody said or used it."""
    left = 1 - Decimal(days) / Decimal(settings.decay_days)
    return Decimal(str(confidence)) * max(Decimal(str(settings.min_confidence_floor)), left)


def decide(memory: Memory, now_ms: int, settings: Decay, *, used_ms: int = 0) -> Decayed:
    """Whether the memory has faded enough to be archived; an answer cited it, or somebody looked at it, at `used_ms`."""
    days, known_days = (max(0, now_ms - max(at, used_ms)) // _DAY_MS for at in (memory.accessed_ms, memory.updated_ms))
    value = effective(memory.confidence, days, settings)
    faded = value < Decimal(str(settings.archive_threshold))
    archive = settings.enabled and faded and known_days > settings.recent_access_grace_days
    reason = f"decayed to {value:.3f} after {days} days without being said or used, below {settings.archive_threshold}"
    return Decayed(memory.memory_id, memory.confidence, days, float(value), archive, reason if archive else "")
