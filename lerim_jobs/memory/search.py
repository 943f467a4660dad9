"""Full-text search over the memories: a local SQLite FTS5 index that is a cache of the log and nothing more.

Porter stemming, our own stop words, weights on title, tags, body and quotes. Queries come from people and models: they are cut
into words here and never reach FTS5 as syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import apsw
import msgspec

from lerim_jobs.memory.memory import Memory
from lerim_jobs.sqlite import immediate

__all__ = ["Hit", "SearchIndex", "words"]

_SCHEMA = 1
_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_STOP = frozenset(
    """a an and are as at be but by can do does did for from had has have how i if in into is it its me my no not of on or
    our should so that the their them then there these they this to us was we were what when where which who why will with
    would you your about say said know use""".split()
)
_MAX_WORDS = 40
_DDL = """
CREATE TABLE IF NOT EXISTS seen(memory_id TEXT PRIMARY KEY, version INTEGER NOT NULL, row INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS about(key TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE VIRTUAL TABLE IF NOT EXISTS texts USING fts5(
  title, tags, body, quotes, memory_id UNINDEXED, project_id UNINDEXED, active UNINDEXED, tokenize = 'porter unicode61');
"""


class Hit(msgspec.Struct, frozen=True):
    """A match; a higher score is a better one."""

    memory_id: str
    score: float


class SearchIndex:
    """Opens or makes the index file; None: in memory. A damaged one, or one of another schema, is made again."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        try:
            self._db = self._open()
        except (apsw.CorruptError, apsw.NotADBError):
            self._remove()
            self._db = self._open()

    def catch_up(self, memories: Iterable[Memory], *, position: int) -> None:
        """Bring the index to the log's position; only memories with a new version are written."""
        if self._position() >= position:
            return
        with immediate(self._db):
            seen = dict(self._db.execute("SELECT memory_id, version FROM seen"))
            for memory in memories:
                if seen.get(memory.memory_id) != memory.version:
                    self._put(memory)
            self._db.execute("INSERT OR REPLACE INTO about VALUES('position', ?)", (position,))

    def search(
        self, query: str, *, project_ids: Sequence[str] | None = None, limit: int, include_archived: bool = False
    ) -> list[Hit]:
        """The best matches first; a query without any searchable word finds nothing."""
        wanted = words(query)
        if not wanted or limit < 1:
            return []
        match = " OR ".join(f'"{word}"' for word in wanted)
        where, given = ["texts MATCH ?"], [match]
        if project_ids is not None:
            where.append(f"project_id IN ({','.join('?' * len(project_ids))})")
            given += project_ids
        if not include_archived:
            where.append("active = 1")
        sql = (
            "SELECT memory_id, bm25(texts, 4.0, 2.0, 2.0, 1.0) AS rank FROM texts "
            f"WHERE {' AND '.join(where)} ORDER BY rank, memory_id LIMIT {int(limit)}"
        )
        return [Hit(memory_id, -rank) for memory_id, rank in self._db.execute(sql, given)]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _put(self, memory: Memory) -> None:
        for (row,) in self._db.execute("SELECT row FROM seen WHERE memory_id = ?", (memory.memory_id,)):
            self._db.execute("DELETE FROM texts WHERE rowid = ?", (row,))
        texts = (
            memory.title,
            " ".join((memory.kind, *memory.tags)),
            memory.body,
            "\n".join(quote.text for quote in memory.quotes),
        )
        about = (memory.memory_id, memory.project_id, int(memory.status == "active"))
        self._db.execute("INSERT INTO texts VALUES(?,?,?,?,?,?,?)", (*texts, *about))
        row = self._db.last_insert_rowid()
        self._db.execute("INSERT OR REPLACE INTO seen VALUES(?,?,?)", (memory.memory_id, memory.version, row))

    def _position(self) -> int:
        rows = list(self._db.execute("SELECT value FROM about WHERE key = 'position'"))
        return rows[0][0] if rows else -1

    def _open(self) -> apsw.Connection:
        db = apsw.Connection(str(self._path or ":memory:"))
        if self._path:
            self._path.chmod(0o600)
        db.set_busy_timeout(10_000)
        if db.pragma("user_version") not in (0, _SCHEMA):
            db.close()
            self._remove()
            return self._open()
        if db.pragma("user_version") == 0:
            db.pragma("journal_mode", "wal")
            with immediate(db):
                db.execute(_DDL)
                db.pragma("user_version", _SCHEMA)
        db.pragma("synchronous", "normal")
        return db

    def _remove(self) -> None:
        for ending in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self._path}{ending}").unlink()


def words(query: str) -> list[str]:
    """The searchable words of a query, in order, each once; at most 40."""
    found = dict.fromkeys(word for word in _WORD.findall(query.lower()) if word not in _STOP)
    return list(found)[:_MAX_WORDS]
