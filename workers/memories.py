"""What agents may see of the memories: search, read, list. Read-only, and narrowed to a project where one is given."""

from __future__ import annotations

from collections.abc import Sequence

from lerim_jobs.log.store import Store
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.search import SearchIndex
from lerim_jobs.paths import Home
from lerim_jobs.views.memories import all_memories

__all__ = ["Memories"]


class Memories:
    """A snapshot of the memories as they were when the stage began; the lane keeps other writers away meanwhile."""

    def __init__(self, store: Store, home: Home, *, project_ids: Sequence[str] | None) -> None:
        everything = all_memories(store)
        self._index = SearchIndex(home.search)
        self._index.catch_up(everything.values(), position=store.position())
        self._project_ids = list(project_ids) if project_ids is not None else None
        self.by_id = {
            key: memory
            for key, memory in everything.items()
            if self._project_ids is None or memory.project_id in self._project_ids
        }

    def search(self, query: str, limit: int) -> list[Memory]:
        """Active memories, the best match first."""
        hits = self._index.search(query, project_ids=self._project_ids, limit=limit)
        return [self.by_id[hit.memory_id] for hit in hits if hit.memory_id in self.by_id]

    def read(self, memory_id: str) -> Memory | None:
        """One memory, archived or not."""
        return self.by_id.get(memory_id)

    def of_session(self, stream: str, limit: int) -> list[Memory]:
        """Active memories that a session's own words prove, summaries aside, the newest first."""
        mine = [
            one
            for one in self.by_id.values()
            if one.status == "active" and one.kind != "summary" and any(quote.stream == stream for quote in one.quotes)
        ]
        return sorted(mine, key=lambda one: (-one.updated_ms, one.memory_id))[:limit]

    def list(self, kind: str | None, limit: int) -> list[Memory]:
        """Active memories, the newest first."""
        active = [one for one in self.by_id.values() if one.status == "active" and kind in (None, one.kind)]
        return sorted(active, key=lambda one: (-one.updated_ms, one.memory_id))[:limit]
