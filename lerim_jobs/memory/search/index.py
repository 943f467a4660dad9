"""Full-text search over the memories: a local SQLite FTS5 index that is a cache of the log and nothing more.

Porter stemming, our own stop words, weights on title, tags, body, quotes and the turns around the quotes. The index reads
what changed since its position; a damaged file, another schema or another log makes it start anew. Queries come from people
and models: they are cut into words and never reach FTS5 as syntax.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import apsw
import msgspec

from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.ids import derived
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.store import Store
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.search import index_file
from lerim_jobs.memory.search.embedding import Embedder, fused
from lerim_jobs.memory.search.neighbours import Neighbours
from lerim_jobs.memory.search.ranking import COLUMNS, MOST_RANKED, Scorer, Tier, Word, everything, tiers
from lerim_jobs.memory.search.vectors import Vectors
from lerim_jobs.memory.search.vocabulary import MOST_KIN_ROWS, Vocabulary
from lerim_jobs.memory.segmentation import searchable
from lerim_jobs.memory.stored import MEMORIES, load_memories
from lerim_jobs.sqlite import immediate

__all__ = ["Document", "Hit", "SearchIndex", "index_of", "newest_memories", "search_memories"]

T = TypeVar("T")
_BATCH = 2000
_TYPES = (*MEMORIES.types, "SessionIndexed")
_ARCHIVED = "archived0"
_FORGOTTEN = ("redacted", "undone")


class Hit(msgspec.Struct, frozen=True):
    """A match; a higher score is a better one."""

    memory_id: str
    score: float


class Document(msgspec.Struct, frozen=True):
    """A memory as the index takes it: `context` are the turns around its quotes."""

    memory: Memory
    context: str = ""


class SearchIndex:
    """The index in a file, caught up from the log; without a path in memory, without a store only what was `put`.

    Threads may share one: they take turns.
    """

    def __init__(self, path: Path | None, store: Store | None = None, *, embedder: Embedder | None = None) -> None:
        self._path, self._store, self._embedder = path, store, embedder
        self._lock = threading.RLock()
        self._scorer = Scorer()
        with self._guarded():
            self._db = self._opened()

    def catch_up(self) -> None:
        """Bring the index to the log's position: only memories that changed since are loaded."""
        store = self._store
        if store is not None:
            with self._lock:
                self._healing(lambda: self._catch_up(store))

    def search(
        self, query: str, *, project_ids: Sequence[str] | None = None, limit: int, include_archived: bool = False
    ) -> list[Hit]:
        """The best matches first; a query without any searchable word finds nothing."""
        if limit < 1 or (project_ids is not None and not project_ids):
            return []
        with self._lock:
            return self._healing(lambda: self._search(query, project_ids, include_archived, limit))

    def likeness(self, text: str, *, project_ids: Sequence[str] | None = None) -> dict[str, float]:
        """How like the text each active memory is by meaning, -1 to 1; empty without an embedder."""
        with self._lock:
            return self._healing(
                lambda: {self._id_of(row): close for row, close in self._likeness(text, project_ids, False).items()}
            )

    def weights(self, text: str) -> dict[str, float]:
        """The stemmed words that carry a text's meaning, and how rare each is in the index."""
        with self._lock:
            return self._healing(lambda: self._vocabulary.weights(text, rows=self._rows()))

    def known(
        self, columns: Sequence[str], *, project_ids: Sequence[str] | None = None, status: str | None = None
    ) -> list[tuple[str | int | float, ...]]:
        """Columns of all memories, what was said last first: what can be told without loading them."""
        where = ["status = ?"] if status else []
        given = [status] if status else []
        if project_ids is not None:
            where.append(f"project_id IN ({','.join('?' * len(project_ids))})")
            given += project_ids
        sql = f"SELECT {', '.join(columns)} FROM known {'WHERE' if where else ''} {' AND '.join(where)}"
        with self._lock:
            return self._healing(lambda: list(self._db.execute(f"{sql} ORDER BY accessed_ms DESC, memory_id", given)))

    def quoting(self, stream: str) -> list[str]:
        """Ids of the memories that quote a session, or once did."""
        with self._lock:
            return self._healing(lambda: self._quoting(stream))

    def put(self, documents: Iterable[Document]) -> None:
        """Write these, whatever the log says."""
        with self._lock, self._guarded(), immediate(self._db):
            for document in documents:
                self._put(document)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # --- catching up ---
    def _catch_up(self, store: Store) -> None:
        end = store.position()
        if not self._of_this_log(store):
            self._start_anew()
        position = self._position()
        while position < end:
            rows = store.read_all(position, _BATCH, _TYPES)
            changed = self._changed(store, rows)
            # Without a change the position moves too, so that the next look has less of the log to pass over.
            last = rows[-1] if rows else store.read_all(end - 1, 1)[0]
            with immediate(self._db):
                if self._position() == position:
                    for document in changed:
                        self._put(document)
                    self._db.execute("UPDATE about SET position = ?, event_id = ?", (last.position, last.id))
            position = self._position()
        self._count_words()

    def _count_words(self) -> None:
        """Count words again once the index has grown by a tenth."""
        rows = self._rows()
        if self._vocabulary.outgrown(rows):
            with immediate(self._db):
                self._vocabulary.recount(rows)

    def _changed(self, store: Store, rows: Sequence[Recorded]) -> list[Document]:
        """Memories these events changed, and those whose session has grown: the turn behind a quote may be there now."""
        ids: dict[str, None] = {}
        for row in rows:
            if row.type == "SessionIndexed":
                ids.update(dict.fromkeys(self._quoting(row.stream)))
            else:
                # At its last change, so that rows are in the order of changes however far the index was behind.
                ids.pop(MEMORIES.key(row), None)
                ids[MEMORIES.key(row)] = None
        neighbours = Neighbours(store)
        return [Document(memory, neighbours.around(memory.quotes)) for memory in load_memories(store, ids)]

    def _quoting(self, stream: str) -> list[str]:
        found = self._db.execute("SELECT memory_id FROM sources WHERE stream = ?", (stream,))
        return [str(memory_id) for (memory_id,) in found]

    def _of_this_log(self, store: Store) -> bool:
        """Whether the event at the index's position is the one that was there: a restored log may be another."""
        position, event_id = next(self._db.execute("SELECT position, event_id FROM about"))
        at = store.read_all(position - 1, 1) if position else []
        return position == 0 or [(row.position, row.id) for row in at] == [(position, event_id)]

    def _start_anew(self) -> None:
        with immediate(self._db):
            self._db.execute("INSERT INTO texts(texts) VALUES('delete-all')")
            for table in ("known", "sources", "counted", "vectors"):
                self._db.execute(f"DELETE FROM {table}")
            self._db.execute("UPDATE about SET position = 0, event_id = '', counted_rows = 0")

    def _put(self, document: Document) -> None:
        one = document.memory
        for (row,) in self._db.execute("SELECT row FROM known WHERE memory_id = ?", (one.memory_id,)):
            self._db.execute("DELETE FROM texts WHERE rowid = ?", (row,))
        self._db.execute("DELETE FROM vectors WHERE memory_id = ?", (one.memory_id,))
        (row,) = next(self._db.execute("SELECT COALESCE(MAX(row), 0) + 1 FROM known"))
        about = (one.version, one.project_id, one.status, one.kind, one.confidence, one.accessed_ms)
        self._db.execute("INSERT OR REPLACE INTO known VALUES(?,?,?,?,?,?,?,?)", (one.memory_id, row, *about))
        if one.status in _FORGOTTEN:
            return
        sources = ((stream, one.memory_id) for stream in {quote.stream for quote in one.quotes})
        self._db.executemany("INSERT OR IGNORE INTO sources VALUES(?,?)", sources)
        texts = (
            searchable(one.title),
            searchable(" ".join((one.kind, *one.tags))),
            searchable(one.body),
            searchable("\n".join(quote.text for quote in one.quotes)),
            searchable(document.context),
            " ".join([_project(one.project_id), *([] if one.status == "active" else [_ARCHIVED])]),
        )
        values = ",".join("?" * len(texts))
        self._db.execute(f"INSERT INTO texts(rowid, {', '.join(COLUMNS)}) VALUES({row},{values})", texts)

    def _position(self) -> int:
        return int(next(self._db.execute("SELECT position FROM about"))[0])

    # --- searching ---
    def _search(self, query: str, project_ids: Sequence[str] | None, archived: bool, limit: int) -> list[Hit]:
        projects = [_project(one) for one in project_ids or ()]
        scope = _scope(projects, archived)
        wanted = self._vocabulary.words(query)
        rows = self._rows()
        share = min(1.0, sum(map(self._vocabulary.rows_with, projects)) / max(1, rows)) if projects else 1.0
        best = self._by_words(wanted, scope, rows=rows, share=share, limit=limit) if wanted else {}
        if kin := self._vocabulary.kin(query, share=share):
            best |= self._ranked(Tier(everything(kin), MOST_KIN_ROWS), [*wanted, *kin], scope)
        if alike := self._likeness(query, project_ids, archived):
            best = fused(best, alike)
        top = heapq.nlargest(limit, ((score, row) for row, score in best.items()))
        return sorted((Hit(self._id_of(row), score) for score, row in top), key=lambda hit: (-hit.score, hit.memory_id))

    def _by_words(self, wanted: list[Word], scope: str, *, rows: int, share: float, limit: int) -> dict[int, float]:
        """Rows with the words of a question, and their scores."""
        choice = tiers(wanted, rows=rows, share=share)
        at = next((n for n, tier in enumerate(choice) if tier.expected <= MOST_RANKED), len(choice) - 1)
        best = self._ranked(choice[at], wanted, scope)
        if len(best) == MOST_RANKED and at + 1 < len(choice):
            # More than could be ranked: better ones may be older than the newest.
            best |= self._ranked(choice[at + 1], wanted, scope)
        while len(best) < limit and at > 0:
            at -= 1
            best |= self._ranked(choice[at], wanted, scope)
        return best

    def _likeness(self, text: str, project_ids: Sequence[str] | None, archived: bool) -> dict[int, float]:
        if self._vectors is None or not text.strip():
            return {}
        if self._store is not None:
            self._vectors.catch_up(self._store)
        return self._vectors.likeness(text, project_ids, archived=archived)

    def _rows(self) -> int:
        return int(next(self._db.execute("SELECT COALESCE(MAX(row), 0) FROM known"))[0])

    def _id_of(self, row: int) -> str:
        return str(next(self._db.execute("SELECT memory_id FROM known WHERE row = ?", (row,)))[0])

    def _ranked(self, tier: Tier, wanted: list[Word], scope: str) -> dict[int, float]:
        """Rows and scores of the newest that match. The words come once more, last, to be ranked by."""
        self._scorer.rank_by(wanted)
        match = f"{scope.format(tier.expression)} AND ({everything(wanted)})"
        sql = f"SELECT rowid, score(texts) FROM texts WHERE texts MATCH ? ORDER BY rowid DESC LIMIT {MOST_RANKED}"
        return dict(self._db.execute(sql, (match,)))

    # --- the file ---
    def _opened(self) -> apsw.Connection:
        db = index_file.opened(self._path)
        db.register_fts5_function("score", self._scorer)
        self._vocabulary = Vocabulary(db)
        self._vectors = Vectors(db, self._embedder) if self._embedder else None
        return db

    def _healing(self, action: Callable[[], T]) -> T:
        """Run it; where the file turns out to be damaged, make a new one from the log and run it again."""
        with self._guarded():
            try:
                return action()
            except (apsw.CorruptError, apsw.NotADBError):
                if self._path is None or self._store is None:
                    raise
                self._db.close()
                index_file.removed(self._path)
                self._db = self._opened()
                self._catch_up(self._store)
                return action()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (apsw.Error, OSError) as exc:
            raise StoreUnavailable(f"cannot use the search index {str(self._path)!r}: {exc}") from exc


def index_of(memories: Iterable[Memory]) -> SearchIndex:
    """An index in memory over just these, for memories as they were at another time."""
    index = SearchIndex(None)
    index.put(map(Document, memories))
    return index


def search_memories(
    index: SearchIndex, store: Store, query: str, *, project_ids: Sequence[str] | None = None, limit: int
) -> list[Memory]:
    """Active memories, the best match first; only the hits are loaded. People and agents search with this."""
    hits = index.search(query, project_ids=project_ids, limit=limit)
    return [one for one in load_memories(store, (hit.memory_id for hit in hits)) if one.status == "active"]


def newest_memories(
    index: SearchIndex,
    store: Store,
    *,
    project_ids: Sequence[str] | None = None,
    kind: str | None = None,
    everything: bool = False,
    limit: int,
) -> list[Memory]:
    """Active memories, or everything that ever was one, what was said last first; only what is listed is loaded."""
    status = None if everything else "active"
    rows = index.known(["memory_id", "kind"], project_ids=project_ids, status=status)
    ids = [str(memory_id) for memory_id, its_kind in rows if kind in (None, its_kind)][:limit]
    return [one for one in load_memories(store, ids) if status in (None, one.status)]


def _scope(projects: Sequence[str], include_archived: bool) -> str:
    """The expression that narrows another one, which belongs at `{}`."""
    scope = "({})"
    if projects:
        scope = f"({scope} AND scope : ({' OR '.join(projects)}))"
    return scope if include_archived else f"({scope} NOT scope : {_ARCHIVED})"


def _project(project_id: str) -> str:
    """A project as one token. It ends in a digit, which the stemmer leaves alone."""
    return f"p{derived(project_id)}0"
