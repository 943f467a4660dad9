"""Later beats earlier by when it was said, in whatever order sessions are read."""

from __future__ import annotations

from collections.abc import Iterable

from lerim_jobs.log.events import Quote
from lerim_jobs.memory.memory import Memory

__all__ = ["is_older"]


def is_older(quotes: Iterable[Quote], memory: Memory) -> bool:
    """Whether all were said before what the memory says now. Where a time is unknown, what is read later counts as later."""
    last = memory.said_ms
    return last is not None and all(one.at_ms is not None and one.at_ms < last for one in quotes)
