"""Time as values: milliseconds since the epoch inside, ISO 8601 UTC outside."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from lerim_jobs import faults
from lerim_jobs.errors import ConfigError

__all__ = ["day", "iso", "ms_from_iso", "now_ms", "now_ns", "seconds_from", "window_start_ms"]

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def now_ms() -> int:
    """Wall clock in milliseconds. Leases use the store's own clock instead."""
    return time.time_ns() // 1_000_000 + faults.skew_ms()


def now_ns() -> int:
    """Wall clock in nanoseconds, the unit of spans."""
    return time.time_ns() + faults.skew_ms() * 1_000_000


def iso(at_ms: int | None) -> str | None:
    """`2026-01-31T12:00:00.123Z`, or None for None."""
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def day(at_ms: int | None) -> str:
    """`31 Jan 2026`, in UTC as everything; empty for None."""
    if at_ms is None:
        return ""
    at = datetime.fromtimestamp(at_ms / 1000, UTC)
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}"


def ms_from_iso(text: str) -> int:
    """Parse an ISO 8601 time; one without a zone counts as UTC. Raises ValueError."""
    at = datetime.fromisoformat(text)
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def window_start_ms(window: str) -> int | None:
    """When a window like `7d` that ends now began; None for `all`. Raises ValueError."""
    if window == "all":
        return None
    parts = re.fullmatch(r"(\d{1,6})([smhd])", window)
    if not parts:
        raise ValueError(f"cannot read the window {window!r}; write 30s, 2m, 1h, 7d or all")
    return now_ms() - int(parts[1]) * _UNITS_S[parts[2]] * 1000


def seconds_from(env: Mapping[str, str], variable: str, default: float, *, least: float, most: float) -> float:
    """A variable that holds seconds; empty is as good as not set. Raises ConfigError."""
    given = env.get(variable, "").strip()
    try:
        found = float(given or default)
    except ValueError:
        found = math.nan
    if not least <= found <= most:
        raise ConfigError(f"{variable}={given!r}: must be {least:g} to {most:g} seconds")
    return found
