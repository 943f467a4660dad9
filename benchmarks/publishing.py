"""What publishing one change costs in a project with many memories; LERIM_BENCH_MEMORIES says how many (20,000)."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from lerim_jobs.log.events import MemoryAdded, MemoryUpdated, ProjectAdded
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.memory.files.publishing import publish_now
from lerim_jobs.paths import memory_dir

__all__ = ["measure"]

_BODY = "We keep amounts as integers of cents, because floats lose them. " * 8


def measure(place: Path, runs: int) -> list[tuple[str, str]]:
    """An unchanged scan and one change: CPU time, and the ratio that matters."""
    memories = int(os.environ.get("LERIM_BENCH_MEMORIES", "20000"))
    repository = place / "published"
    repository.mkdir(parents=True)
    store = SqliteStore(place / "publishing.sqlite3")
    _fill(store, repository, memories)
    publish_now(store, "p", fsync=lambda descriptor: None)  # only set-up: these files need not outlive a power cut
    _settle(memory_dir(repository))
    publish_now(store, "p")
    unchanged_s, changed_s, touched = [], [], []
    for run in range(runs):
        unchanged_s.append(_timed(lambda: publish_now(store, "p")))
        key = f"m{run * memories // runs:07}"
        store.append(f"memory-{key}", [MemoryUpdated(key, f"Changed in run {run}", _BODY, 0.9)])
        before = _looks(repository)
        changed_s.append(_timed(lambda: publish_now(store, "p")))
        touched.append(len(before ^ _looks(repository)) // 2)
    store.close()
    unchanged, changed = statistics.median(unchanged_s), statistics.median(changed_s)
    return [
        (f"publish: nothing changed among {memories:,}", f"{unchanged * 1000:.0f} ms CPU"),
        (
            f"publish: one change among {memories:,}",
            f"{changed * 1000:.0f} ms CPU = {changed / unchanged:.2f} x an unchanged scan, files touched: {max(touched)}",
        ),
    ]


def _fill(store: SqliteStore, repository: Path, memories: int) -> None:
    store.append("project-p", [ProjectAdded("p", "bench", str(repository), "h")])
    for start in range(0, memories, 5000):
        with store.write() as tx:
            for number in range(start, min(start + 5000, memories)):
                key = f"m{number:07}"
                added = MemoryAdded(key, "p", "decision", f"Fact number {number}", _BODY, 0.8, ["bench"], by_hand=True)
                tx.append(f"memory-{key}", [added], expected=0)


def _settle(folder: Path) -> None:
    """As if the files had been written some time ago: one that has only just changed is always read again."""
    for number, path in enumerate(folder.rglob("*.md")):
        os.utime(path, ns=(10**18 + number, 10**18 + number))


def _looks(repository: Path) -> set[tuple[str, int, int]]:
    found = ((path, path.stat()) for path in repository.rglob("*") if path.is_file())
    return {(str(path), about.st_mtime_ns, about.st_ino) for path, about in found}


def _timed(run: Callable[[], object]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin
