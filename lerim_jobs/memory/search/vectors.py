"""The vectors of memories, beside the index in its file and a cache like it: made as memories change, never read from the log."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from lerim_jobs.log.store import Store
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.search.embedding import Embedder
from lerim_jobs.memory.stored import load_memories
from lerim_jobs.sqlite import immediate

__all__ = ["Vectors", "told"]

_AT_ONCE = 100
_MOST_CHARS = 2000
_FORGOTTEN = "('redacted', 'undone')"


class Vectors:
    """Those of one index, by one model."""

    def __init__(self, db: apsw.Connection, embedder: Embedder) -> None:
        self._db, self._embedder = db, embedder

    def catch_up(self, store: Store) -> None:
        """Make the vectors that are missing: of memories that changed, and all of them where the model is new here."""
        ids = self._missing()
        while ids:
            memories = load_memories(store, ids)
            made = self._embedder.vectors([told(one) for one in memories])
            rows = [
                (one.memory_id, one.version, self._embedder.name, vector)
                for one, vector in zip(memories, made, strict=True)
            ]
            with immediate(self._db):
                self._db.executemany("INSERT OR REPLACE INTO vectors VALUES(?,?,?,?)", rows)
            before, ids = ids, self._missing()
            if ids == before:
                return  # they change faster than they are read: the next look has them

    def likeness(self, text: str, project_ids: Sequence[str] | None, *, archived: bool) -> dict[int, float]:
        """How like the text every memory is that may be found, by its row in the index."""
        where = [] if archived else ["k.status = 'active'"]
        if project_ids is not None:
            where.append(f"k.project_id IN ({','.join('?' * len(project_ids))})")
        sql = "SELECT k.row, v.vector FROM vectors v JOIN known k USING(memory_id) WHERE v.model = ?"
        rows = list(self._db.execute(" AND ".join([sql, *where]), (self._embedder.name, *(project_ids or ()))))
        close = self._embedder.likeness(text[:_MOST_CHARS], [vector for _, vector in rows])
        return {int(row): near for (row, _), near in zip(rows, close, strict=True)}

    def _missing(self) -> list[str]:
        sql = (
            "SELECT k.memory_id FROM known k LEFT JOIN vectors v USING(memory_id) "
            f"WHERE k.status NOT IN {_FORGOTTEN} AND (v.version IS NOT k.version OR v.model IS NOT ?) LIMIT {_AT_ONCE}"
        )
        return [str(memory_id) for (memory_id,) in self._db.execute(sql, (self._embedder.name,))]


def told(memory: Memory) -> str:
    """What a memory says, for its vector: the title, the body and the newest sentence that proves it."""
    quotes = "\n".join(quote.text for quote in memory.quotes[-1:])
    return f"{memory.title}. {memory.body}\n{quotes}"[:_MOST_CHARS]
