"""`python -m benchmarks.big`: a log of a million events (status of a job, the job list, a full rebuild), and long histories.

`--history-only` measures the first sync of 1 GB of sessions, and of one file of 2 GB, and nothing else.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import history, scan
from lerim_jobs.care.derived import VIEWS
from lerim_jobs.care.rebuild import rebuild_all
from lerim_jobs.jobs.line import JOBS
from lerim_jobs.log.events import (
    Event,
    JobFinished,
    JobRequested,
    MemoryAccessed,
    MemoryAdded,
    MemoryUpdated,
    ModelCalled,
    Quote,
    SessionExtracted,
    SessionIndexed,
    SessionScheduled,
    StageCompleted,
    StageRequested,
    StageStarted,
    TraceClosed,
)
from lerim_jobs.log.projection import catch_up, find, fold_all
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.paths import Home

__all__ = ["fill", "measure"]

_WORDS = "cart order stock price page cache queue".split()
_STAGES = ("index", "extract:a:0", "extract:b:0", "summarize:a", "integrate:a", "publish:p", "finish")


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--history-mb", type=int, default=1000)
    parser.add_argument("--history-only", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lerim-big-") as folder:
        place = Path(folder)
        rows = [] if args.history_only else measure(place, args.events)
        rows += [] if args.history_only else scan.measure(place / "scan", 1, sessions=args.sessions)
        for name, size_mb, files in (("many", args.history_mb, None), ("one", 2 * args.history_mb, 1)):
            rows += history.measure(place / name, size_mb * 1_000_000, files=files)
            shutil.rmtree(place / name)
        for name, value in rows:
            print(f"{name:<50}  {value}")


def measure(place: Path, events: int) -> list[tuple[str, str]]:
    """Figures over a log of that many events; the first build of the read models is a rebuild from nothing."""
    home = Home(place / "home").ensure()
    store = SqliteStore(home.log)
    jobs = fill(store, events)
    size = sum(path.stat().st_size for path in home.root.glob("log.sqlite3*"))
    for view in VIEWS:
        catch_up(store, view)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    counts = rebuild_all(store, home)
    rebuild_s, cpu_s = time.perf_counter() - begin, time.process_time() - begin_cpu
    assert not counts.changed
    newest = f"sync-{jobs - 1:07d}"
    rows = [
        (f"big: log of {store.position():,} events, {jobs:,} jobs", f"{size / 1e6:.0f} MB"),
        (
            "big: rebuild of all read models, search, sums",
            f"{rebuild_s:.1f} s, {cpu_s:.1f} s CPU ({counts.events / cpu_s:,.0f} events/s)",
        ),
        ("big: status of a job", f"{_median_ms(lambda: find(store, JOBS, newest)):.2f} ms"),
        ("big: events of a job", f"{_median_ms(lambda: store.read(f'job-{newest}')):.2f} ms"),
        ("big: list of all jobs", f"{_median_ms(lambda: fold_all(store, JOBS), 3):.0f} ms"),
    ]
    store.close()
    return rows


def fill(store: SqliteStore, events: int) -> int:
    """Write jobs with all they cause until the log has that many events; returns how many jobs."""
    job, written = 0, 0
    while written < events:
        with store.write() as tx:
            for _ in range(500):
                rows = list(_job(job))
                for stream, happened in rows:
                    tx.append(stream, [happened])
                written += len(rows)
                job += 1
                if written >= events:
                    break
    return job


def _job(n: int) -> Iterator[tuple[str, Event]]:
    """A sync of two sessions with all its events, and three memories."""
    stream = f"job-sync-{n:07d}"
    yield stream, JobRequested("sync", {}, "all", "bench", "h", f"{n:032x}", "s" * 16, 1)
    for stage in _STAGES:
        yield stream, StageRequested(stage, "extract")
    for stage in _STAGES:
        yield stream, StageStarted(stage, 1, f"worker-{n % 8}", 1)
        if stage.startswith(("extract", "summarize", "integrate")):
            yield stream, _call(stage, n)
        yield stream, StageCompleted(stage, 1, {"candidates": 3, "kept": 2})
    session = f"session-claude_code-{n % 20_000:016x}"
    yield session, _indexed(n)
    yield session, SessionScheduled(stream[4:], "p1", n, n + 4)
    yield session, SessionExtracted(stream[4:], n + 4)
    for part in range(3):
        yield f"memory-{n % 10_000:012x}{part}", _memory(n, part)
    yield "project-p1", MemoryAccessed("p1", [f"{n:012x}0"])
    yield stream, JobFinished("succeeded", {"memories": {"added": 3}}, None)
    yield stream, TraceClosed(40)


def _call(stage: str, n: int) -> ModelCalled:
    return ModelCalled(
        *(stage, 1, stage.partition(":")[0], f"{n:064x}", 0, f"{n:064x}", "gpt-5-mini", "gpt-5-mini", "openai"),
        tokens_in=4000,
        tokens_out=300,
        duration_ms=900,
        cost_usd=0.0016,
        project_id="p1",
    )


def _indexed(n: int) -> SessionIndexed:
    at = f"/home/u/.claude/projects/-srv-shop/{n % 20_000:08d}.jsonl"
    return SessionIndexed(
        *("claude_code", f"{n % 20_000:08d}", at, "h", 86_000 + n, n, n, 86_000 + n, "444:430accba9c1132bb"),
        turn_from=n,
        turn_to=n + 4,
        blob=f"{n:064x}",
        cwd="/srv/shop",
        last_ms=1_700_000_000_000 + n,
        human_prompts=2,
    )


def _memory(n: int, part: int) -> Event:
    """The first jobs add memories, later ones find something to improve about them."""
    memory_id = f"{n % 10_000:012x}{part}"
    title, body = (
        f"Decision {n % 10_000} about the {_WORDS[n % 7]} of the {_WORDS[part]}",
        "We use it because it is simple. " * 4,
    )
    quote = Quote("We use it because it is simple.", f"{n:08d}", "session-x", "claude_code", n, "user")
    if n < 10_000:
        return MemoryAdded(memory_id, "p1", "decision", title, body, 0.8, ["shop"], [quote])
    return MemoryUpdated(memory_id, title, body, 0.9, ["shop"])


def _median_ms(run: Callable[[], object], runs: int = 21) -> float:
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


if __name__ == "__main__":
    main()
