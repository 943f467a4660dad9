"""Time as values: milliseconds since the epoch inside, ISO 8601 UTC outside."""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["iso", "ms_from_iso", "now_ms", "now_ns"]


def now_ms() -> int:
    """Wall clock in milliseconds. Leases use the store's own clock instead."""
    return time.time_ns() // 1_000_000


def now_ns() -> int:
    """Wall clock in nanoseconds, the unit of spans."""
    return time.time_ns()


def iso(at_ms: int | None) -> str | None:
    """`2026-01-31T12:00:00.123Z`, or None for None."""
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def ms_from_iso(text: str) -> int:
    """Parse an ISO 8601 time; one without a zone counts as UTC. Raises ValueError."""
    at = datetime.fromisoformat(text)
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
