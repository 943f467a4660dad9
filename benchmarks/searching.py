"""Search over many generated memories: how long a question takes, and what one change costs to catch up with."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from lerim_jobs.log.events import MemoryAdded, MemoryEdited, MemoryKind, ProjectAdded, Quote, SessionIndexed
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.memory.search.index import SearchIndex, search_memories
from lerim_jobs.memory.stored import memory_stream
from lerim_jobs.sessions.transcript import Segment, Turn, encode

__all__ = ["Words", "generate", "measure"]

PROJECTS = 5
_A_SESSION = 25
_KINDS: tuple[MemoryKind, ...] = ("decision", "insight", "procedure", "friction", "pitfall", "preference")


class Words:
    """A vocabulary whose words fall off as those of real texts do: the commonest stand in most memories, most in few."""

    def __init__(self, *, size: int = 30_000, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        syllables = [a + b for a in "bcdfghklmnprstvz" for b in "aeiou"]
        self._words = ["".join(self.rng.choices(syllables, k=self.rng.randint(2, 4))) for _ in range(size)]
        self._weights = list(itertools.accumulate(1 / (rank + 10) for rank in range(size)))

    def some(self, count: int) -> list[str]:
        """Words drawn by their weight."""
        return self.rng.choices(self._words, cum_weights=self._weights, k=count)


def generate(store: SqliteStore, *, count: int, words: Words) -> list[tuple[str, str]]:
    """Append memories with their sessions; returns (question, memory id) for some of them, spread evenly."""
    asked: list[tuple[str, str]] = []
    for number in range(PROJECTS):
        store.append(f"project-p{number}", [ProjectAdded(f"p{number}", f"project {number}", f"/srv/p{number}", "h")])
    for session in range(0, count, _A_SESSION):
        stream = f"session-codex-{session:016x}"
        said = [" ".join(words.some(25)) for _ in range(_A_SESSION + 2)]
        turns = [Turn(n, "user", text, f"{n:016x}") for n, text in enumerate(said)]
        with store.write() as tx:
            blob = tx.put_blob(encode(Segment("codex", f"s{session}", turns)))
            tx.append(stream, [_indexed(session, len(turns), blob)])
            for n in range(session, min(count, session + _A_SESSION)):
                turn = n - session + 1
                added = _memory(n, words, Quote(said[turn], f"s{session}", stream, "codex", turn, "user"))
                tx.append(memory_stream(added.memory_id), [added])
                if n % max(1, count // 200) == 0:
                    picked = words.rng.sample(added.title.split(), 3) + words.rng.sample(added.body.split(), 2)
                    asked.append((f"What do we know about {' '.join(picked)}?", added.memory_id))
    return asked


def measure(place: Path, count: int) -> list[tuple[str, str]]:
    """Rows for the table: building the index, questions, and catching up with one change."""
    store = SqliteStore(place / "many.sqlite3")
    asked = generate(store, count=count, words=Words())
    begin = time.perf_counter()
    index = SearchIndex(place / "search.sqlite3", store)
    index.catch_up()
    built_s = time.perf_counter() - begin
    empty = statistics.median(_timed(lambda: index.search("", limit=10))[0] for _ in asked)
    times, cpu_times, found = [], [], 0
    for question, memory_id in asked:
        cpu_begin = time.thread_time()
        took, hits = _timed(lambda question=question: search_memories(index, store, question, limit=10))  # type: ignore[misc]
        times.append(took)
        cpu_times.append((time.thread_time() - cpu_begin) * 1000)
        found += memory_id in [memory.memory_id for memory in hits]
    changes = [_change(store, index, memory_id) for _, memory_id in asked[:20]]
    index.close()
    store.close()
    p50, p95 = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    name = f"{count:,} memories"
    return [
        (
            f"{name}: search",
            f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, max {max(times):.1f} ms; CPU p50 "
            f"{statistics.median(cpu_times):.1f} ms; without any word {empty * 1000:.0f} us",
        ),
        (f"{name}: the memory asked for is among the first 10", f"{found} of {len(asked)}"),
        (f"{name}: index catches up with one change", f"p50 {statistics.median(changes):.1f} ms"),
        (f"{name}: index made from the log", f"{built_s:.0f} s, {_size_mb(place):.0f} MB"),
    ]


def _change(store: SqliteStore, index: SearchIndex, memory_id: str) -> float:
    store.append(memory_stream(memory_id), [MemoryEdited(memory_id, "Changed title", "Changed body.", 0.9)])
    return _timed(index.catch_up)[0]


def _timed(run: Callable[[], object]) -> tuple[float, list]:  # type: ignore[type-arg]
    begin = time.perf_counter()
    result = run()
    return (time.perf_counter() - begin) * 1000, result  # type: ignore[return-value]


def _size_mb(place: Path) -> float:
    return (place / "search.sqlite3").stat().st_size / 1e6


def _memory(number: int, words: Words, quote: Quote) -> MemoryAdded:
    return MemoryAdded(
        memory_id=f"{number:016x}",
        project_id=f"p{number % PROJECTS}",
        kind=_KINDS[number % len(_KINDS)],
        title=" ".join(words.some(7)),
        body=" ".join(words.some(35)),
        confidence=0.8,
        tags=words.some(2),
        quotes=[quote],
        session_id=quote.session_id,
        agent=quote.agent,
    )


def _indexed(number: int, turns: int, blob: str) -> SessionIndexed:
    return SessionIndexed(
        agent="codex",
        session_id=f"s{number}",
        path=f"/srv/sessions/{number}.jsonl",
        host="h",
        size_bytes=1000,
        mtime_ns=1,
        inode=1,
        offset=1000,
        tail_hash="0" * 64,
        turn_from=0,
        turn_to=turns,
        blob=blob,
        human_prompts=turns,
    )
