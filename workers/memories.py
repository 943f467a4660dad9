"""What agents may see of the memories: search, read, list. Read-only, and narrowed to a project where one is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lerim_jobs.log.store import Store
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.search.embedding import Embedder
from lerim_jobs.memory.search.index import SearchIndex, newest_memories, search_memories
from lerim_jobs.memory.search.nearness import near_memories
from lerim_jobs.memory.stored import load_memories
from lerim_jobs.paths import Home

__all__ = ["Memories"]


class Memories:
    """Memories loaded when they are asked for, each once: who reads one twice, or reads and then changes it, sees one version.

    The lane keeps other writers away meanwhile; where one gets through, the commit notices by the version.
    """

    def __init__(
        self, store: Store, home: Home, *, project_ids: Sequence[str] | None, embedder: Embedder | None = None
    ) -> None:
        self._store = store
        self._index = SearchIndex(home.search, store, embedder=embedder)
        self._index.catch_up()
        self._project_ids = list(project_ids) if project_ids is not None else None
        self._loaded: dict[str, Memory] = {}
        self.by_id: Mapping[str, Memory] = _ById(self)

    def search(self, query: str, limit: int) -> list[Memory]:
        """Active memories, the best match first."""
        hits = search_memories(self._index, self._store, query, project_ids=self._project_ids, limit=limit)
        return self._kept(hits)

    def near(self, text: str, limit: int) -> list[Memory]:
        """Active memories that are plainly related to a text, summaries aside, the nearest first; often none."""
        hits = near_memories(self._index, self._store, text, project_ids=self._project_ids, limit=limit)
        return self._kept(hits)

    def read(self, memory_id: str) -> Memory | None:
        """One memory, archived or not."""
        return next(iter(self._those([memory_id])), None)

    def all(self) -> list[Memory]:
        """All of them: for checks, which compare each with each, and for keeping a project clean."""
        rows = self._index.known(["memory_id"], project_ids=self._project_ids)
        return self._those([str(memory_id) for (memory_id,) in rows])

    def _those(self, memory_ids: Sequence[str]) -> list[Memory]:
        if missing := [one for one in memory_ids if one not in self._loaded]:
            self._kept(load_memories(self._store, missing))
        found = (self._loaded.get(memory_id) for memory_id in memory_ids)
        return [one for one in found if one and (self._project_ids is None or one.project_id in self._project_ids)]

    def _kept(self, memories: Sequence[Memory]) -> list[Memory]:
        return [self._loaded.setdefault(memory.memory_id, memory) for memory in memories]

    def of_session(self, stream: str, limit: int) -> list[Memory]:
        """Active memories that a session's own words prove, summaries aside, the newest first."""
        mine = [
            one
            for one in self._those(self._index.quoting(stream))
            if one.status == "active" and one.kind != "summary" and any(quote.stream == stream for quote in one.quotes)
        ]
        return sorted(mine, key=lambda one: (-one.accessed_ms, one.memory_id))[:limit]

    def list(self, kind: str | None, limit: int) -> list[Memory]:
        """Active memories, the newest first."""
        return self._kept(
            newest_memories(self._index, self._store, project_ids=self._project_ids, kind=kind, limit=limit)
        )


class _ById(Mapping[str, Memory]):
    """Memories by id: one is loaded when it is asked for, all when they are gone through."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories

    def __getitem__(self, memory_id: str) -> Memory:
        found = self._memories.read(memory_id)
        if found is None:
            raise KeyError(memory_id)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter([one.memory_id for one in self._memories.all()])

    def __len__(self) -> int:
        return len(self._memories.all())
