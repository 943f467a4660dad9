"""First scan of 1,000 generated sessions and the unchanged rescan, through the real index stage and a real log."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from benchmarks.sessions import generate
from lerim_jobs import config
from lerim_jobs.clock import now_ms
from lerim_jobs.jobs import claims, outcomes
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import JobRequested
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.paths import Home
from workers.stage import Outcome, StageContext
from workers.stages import index

__all__ = ["measure"]


def measure(place: Path, runs: int, sessions: int = 1000) -> list[tuple[str, str]]:
    """CPU seconds of this process, medians over fresh logs."""
    folder = place / "claude" / "projects" / "-srv-shop"
    size = generate(folder, count=sessions)
    env = {"HOME": str(place), "CLAUDE_CONFIG_DIR": str(place / "claude"), "CODEX_HOME": str(place / "none")}
    firsts, rescans = [], []
    for run in range(min(runs, 5)):
        store = SqliteStore(place / f"scan-{run}.sqlite3")
        first, outcome = _timed(store, "first", env, place)
        assert outcome.output["indexed"] == sessions, outcome.output
        firsts.append(first)
        for again in range(3):
            rescan, outcome = _timed(store, f"again-{again}", env, place)
            assert outcome.output["unchanged"] == sessions, outcome.output
            rescans.append(rescan)
        store.close()
    first, rescan = statistics.median(firsts), statistics.median(rescans)
    return [
        (f"scan: first, {sessions:,} sessions, {size / 1e6:.0f} MB", f"{first:.2f} s CPU"),
        ("scan: unchanged rescan", f"{rescan * 1000:.1f} ms CPU = {rescan / first:.3f} of the first"),
    ]


def _timed(store: SqliteStore, job_id: str, env: dict[str, str], place: Path) -> tuple[float, Outcome]:
    requested = JobRequested("sync", {}, job_id, "bench", "h", "t" * 32, "s" * 16, 1)
    request_job(store, job_id, requested)
    held = claims.claim(store, job_id, "index", "bench", alive=lambda owner: True, max_attempts=5)
    assert isinstance(held, claims.Claim)
    context = StageContext(
        job_id=job_id,
        request=requested,
        stage="index",
        attempt=1,
        input={},
        outputs={},
        store=store,
        settings=config.Settings(),
        settings_of=lambda folder: config.Settings(),
        env=env,
        home=Home(place),
        host="h",
        now_ms=now_ms(),
        models=lambda: (_ for _ in ()).throw(AssertionError("index calls no model")),
    )
    begin = time.process_time()
    outcome = index.run(context)
    spent = time.process_time() - begin
    outcomes.complete(store, held, output=outcome.output, effects=outcome.effects, blobs=outcome.blobs)
    return spent, outcome
