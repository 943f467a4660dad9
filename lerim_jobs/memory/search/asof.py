"""The memories as they were at some time, folded from the log, with a full-text index of that time in memory.

By what had been said: an event counts from when the words that it brings were said, so that sessions of June that are read in
November are what was known in June. What was replaced was true until the words were said that replaced it. What somebody did by
hand, an undo, a clean-up and decay count from when it was done.
By the log: an event counts from when the log got it, so that what was known in June of sessions read in November is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from lerim_jobs.clock import ms_from_iso, now_ms
from lerim_jobs.errors import BadInput
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import MemoryAdded, MemoryArchived, MemoryUpdated
from lerim_jobs.log.scan import scan
from lerim_jobs.log.store import Store
from lerim_jobs.memory.memory import By, Memory, apply, replaced_by, said_ms
from lerim_jobs.memory.search.index import index_of
from lerim_jobs.memory.stored import MEMORIES

__all__ = ["MemoriesThen", "as_of_ms", "memories_at"]


def as_of_ms(text: str) -> int:
    """An ISO 8601 time as ms; one without a zone counts as UTC, a day alone up to its end. Raises BadInput, also for a time that
    is still to come.
    """
    try:
        at_ms = ms_from_iso(text)
        day_ends_ms = (
            ms_from_iso((date.fromisoformat(text) + timedelta(days=1)).isoformat()) if len(text) <= 10 else at_ms
        )
    except (ValueError, OverflowError):
        raise BadInput(f"cannot read the time {text!r}; write it as 2026-01-31 or 2026-01-31T12:00:00Z") from None
    if at_ms > now_ms() + 60_000:
        raise BadInput(f"{text!r} is still to come: nobody knows yet what will be remembered then")
    return max(at_ms, min(day_ends_ms - 1, now_ms()))


def memories_at(
    store: Store, at_ms: int, *, by: By = "log", project_ids: Sequence[str] | None = None
) -> dict[str, Memory]:
    """Every memory by id as it was then, archived and merged ones included. What was redacted since was never there."""
    found: dict[str, Memory | None] = {}
    times = _Times() if by == "said" else None
    later: set[str] = set()
    for row in scan(store, MEMORIES.types):
        key = row.stream.removeprefix("memory-")
        counts_ms = times.of(row, key) if times else row.at_ms
        if row.type == "MemoryRedacted":
            found.pop(key, None)
            later.add(key)
        elif counts_ms > at_ms:
            later.add(key)  # a clock that went back must not leave a hole in the stream
        elif key not in later:
            found[key] = apply(found.get(key), row)
    return {key: one for key, one in found.items() if one and (project_ids is None or one.project_id in project_ids)}


@dataclass
class _Times:
    """When events count by what had been said. Within a memory they keep their order."""

    last: dict[str, int] = field(default_factory=dict)
    """When the newest event of each memory counts."""
    begun: dict[str, int] = field(default_factory=dict)
    """When each memory counts from."""

    def of(self, row: Recorded, key: str) -> int:
        """In ms since the epoch."""
        at_ms = max(self.last.get(key, 0), self._of(row, key))
        self.last[key] = at_ms
        self.begun.setdefault(key, at_ms)
        return at_ms

    def _of(self, row: Recorded, key: str) -> int:
        event = row.event
        if isinstance(event, MemoryAdded | MemoryUpdated):
            at_ms = said_ms(event.quotes, row.at_ms)
            return row.at_ms if at_ms is None else at_ms
        if isinstance(event, MemoryArchived) and (instead := replaced_by(event)):
            return self.begun.get(instead, row.at_ms)
        return row.at_ms


class MemoriesThen:
    """What agents may see of the memories of that time: search, read, list."""

    def __init__(self, store: Store, at_ms: int, *, by: By = "log", project_ids: Sequence[str] | None) -> None:
        self.by_id = memories_at(store, at_ms, by=by, project_ids=project_ids)
        self._index = index_of(self.by_id.values())

    def search(self, query: str, limit: int) -> list[Memory]:
        """Memories that were active then, the best match first."""
        return [self.by_id[hit.memory_id] for hit in self._index.search(query, limit=limit)]

    def read(self, memory_id: str) -> Memory | None:
        """One memory, archived or not."""
        return self.by_id.get(memory_id)

    def of_session(self, stream: str, limit: int) -> list[Memory]:
        """Memories of that time which a session's own words prove, the newest first."""
        mine = [one for one in self.list(None, len(self.by_id)) if any(quote.stream == stream for quote in one.quotes)]
        return [one for one in mine if one.kind != "summary"][:limit]

    def list(self, kind: str | None, limit: int) -> list[Memory]:
        """Memories that were active then, the newest first."""
        active = [one for one in self.by_id.values() if one.status == "active" and kind in (None, one.kind)]
        return sorted(active, key=lambda one: (-one.accessed_ms, one.memory_id))[:limit]
