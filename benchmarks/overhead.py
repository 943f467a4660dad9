"""What the log costs a stage, and how long an idle worker takes to notice a question."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from lerim_jobs.jobs import claims, outcomes
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import JobRequested, StageRequested
from lerim_jobs.log.sqlite import SqliteStore

__all__ = ["measure"]


def measure(place: Path, runs: int) -> list[tuple[str, str]]:
    """Stage overhead in this process; enqueue to start with a real worker and a real Redis."""
    return [*_stage_overhead(place, runs * 20), *_enqueue_to_start(place, runs * 2)]


def _request(kind: str = "ask") -> JobRequested:
    return JobRequested(kind, {}, "bench", "bench", "h", "t" * 32, "s" * 16, 1)


def _stage_overhead(place: Path, stages: int) -> list[tuple[str, str]]:
    store = SqliteStore(place / "overhead.sqlite3")
    request_job(store, "j", _request("sync"))
    held = claims.claim(store, "j", "index", "bench", alive=lambda owner: True, max_attempts=5)
    assert isinstance(held, claims.Claim)
    plan = [StageRequested(stage=f"extract:x:{n}", queue="extract") for n in range(stages)]
    outcomes.complete(store, held, output={}, next_stages=plan)
    times, bare = [], []
    for n in range(stages):
        begin = time.perf_counter()
        held = claims.claim(store, "j", f"extract:x:{n}", "bench", alive=lambda owner: True, max_attempts=5)
        assert isinstance(held, claims.Claim)
        outcomes.complete(store, held, output={"candidates": []})
        times.append(time.perf_counter() - begin)
        begin = time.perf_counter()
        store.append("memory-x", [])
        bare.append(time.perf_counter() - begin)
    store.close()
    median, one = statistics.median(times), statistics.median(bare)
    return [("stage: claim + commit in the log", f"{median * 1000:.1f} ms = {median / one:.0f} x an empty transaction")]


def _enqueue_to_start(place: Path, asks: int) -> list[tuple[str, str]]:
    from benchmarks.waiting import worker_waits_ms

    waits = worker_waits_ms(place / "home", asks)
    return [
        ("ask: enqueue to start on an idle worker", f"p50 {statistics.median(waits):.0f} ms, max {max(waits):.0f} ms")
    ]
