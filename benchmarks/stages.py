"""What a stage costs by the size of its job: claim, load and complete one after another, in one process.

A sync of N sessions of two windows has 4 N + 3 stages. Its extractions are claimed, opened as a worker opens them, and completed
with five candidates each.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from lerim_jobs.config import Settings
from lerim_jobs.jobs import claims, outcomes
from lerim_jobs.jobs.request import request_job
from lerim_jobs.kinds.sync import SessionPlan, after_index
from lerim_jobs.log.events import JobRequested
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.paths import Home
from workers.work import Workshop

__all__ = ["measure"]

_SESSIONS = (50, 200, 800)
_CANDIDATES = [
    {"kind": "decision", "title": f"Title of candidate {n}", "body": "What was decided, in two lines. " * 4}
    for n in range(5)
]


def measure(place: Path, runs: int) -> list[tuple[str, str]]:
    """Medians in ms by number of stages, and the ratio of the largest job to the smallest."""
    medians = {4 * n + 3: _stage_ms(place / f"stages-{n}", n, runs * 20) for n in _SESSIONS}
    small, large = medians[min(medians)], medians[max(medians)]
    said = ", ".join(f"{count:,}: {ms:.2f} ms" for count, ms in medians.items())
    return [
        ("stage: claim + load + complete, by stages of the job", f"{said}; largest = {large / small:.2f} x smallest")
    ]


def _stage_ms(place: Path, sessions: int, stages: int) -> float:
    place.mkdir()
    store = SqliteStore(place / "log.sqlite3")
    workshop = Workshop(store, Home(place), {}, "h", Settings, {"worker": "w"})
    request_job(store, "j", JobRequested("sync", {}, "all", "bench", "h", "t" * 32, "s" * 16, 1))
    plans = [_plan(n) for n in range(sessions)]
    outcomes.complete(store, _taken(store, "index"), output={}, next_stages=after_index(plans, host="h", params={}))
    names = [f"extract:{plan.key}:{window}" for plan in plans for window in (0, 1)]
    times = []
    for name in names[:stages]:
        begin = time.perf_counter()
        held = _taken(store, name)
        context = workshop.context(workshop.open(held))
        assert context.input["window"] in (0, 1)
        output: dict[str, Any] = {"candidates": _CANDIDATES, "dropped": []}
        outcomes.complete(store, held, output=output, meta={"trace_id": "t" * 32})
        times.append((time.perf_counter() - begin) * 1000)
    store.close()
    return statistics.median(times)


def _taken(store: SqliteStore, stage: str) -> claims.Claim:
    got = claims.claim(store, "j", stage, "bench", alive=lambda owner: True, max_attempts=5)
    assert isinstance(got, claims.Claim)
    return got


def _plan(n: int) -> SessionPlan:
    return SessionPlan(f"{n:08x}", f"session-{n}", str(n), "claude_code", "p1", 0, 40, 2, 8000, 200)
