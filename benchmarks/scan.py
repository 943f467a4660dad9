"""First scan of 1,000 generated sessions and the unchanged rescan, through the real index stage and a real log."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import msgspec

from benchmarks.sessions import FORMS, generate
from lerim_jobs import config
from lerim_jobs.clock import now_ms
from lerim_jobs.jobs import claims, outcomes
from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import JobRequested
from lerim_jobs.log.projection import fold_all
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.paths import Home
from lerim_jobs.sessions.chunk import LIMITS, Limits
from lerim_jobs.sessions.session import SESSIONS
from lerim_jobs.sessions.stored import stored_turns
from workers.stage import Outcome, StageContext
from workers.stages import index

__all__ = ["measure", "run_index"]


def measure(place: Path, runs: int, sessions: int = 1000) -> list[tuple[str, str]]:
    """CPU seconds of this process with all commits, medians over fresh logs; ratios to the least anybody could do."""
    folder = place / "claude" / "projects" / "-srv-shop"
    size = generate(folder, count=sessions)
    env = {"HOME": str(place), "CLAUDE_CONFIG_DIR": str(place / "claude"), "CODEX_HOME": str(place / "none")}
    files = sorted(str(path) for path in folder.glob("*.jsonl"))
    firsts, rescans, decoded, looked = [], [], [], []
    for run in range(min(runs, 5)):
        decoded.append(_decoding(files))
        looked.append(_looking(files))
        store = SqliteStore(place / f"scan-{run}.sqlite3")
        first, outcome = _timed(store, "first", env, place)
        assert outcome.output["indexed"] == sessions, outcome.output
        assert run or _forms(store) == set(FORMS) | {"question"}
        firsts.append(first)
        for again in range(3):
            rescan, outcome = _timed(store, f"again-{again}", env, place)
            assert outcome.output["unchanged"] == sessions, outcome.output
            rescans.append(rescan)
        store.close()
    first, rescan = statistics.median(firsts), statistics.median(rescans)
    decoding, looking = statistics.median(decoded), statistics.median(looked)
    return [
        (f"scan: reading and decoding {sessions:,} sessions, {size / 1e6:.0f} MB", f"{decoding:.3f} s CPU = 1.0"),
        ("scan: first", f"{first:.3f} s CPU = {first / decoding:.2f} (aim: 2.5)"),
        (f"scan: {sessions:,} stat calls", f"{looking * 1000:.2f} ms CPU = 1.0"),
        ("scan: unchanged rescan", f"{rescan * 1000:.1f} ms CPU = {rescan / looking:.2f} (aim: 3)"),
    ]


def _decoding(files: Sequence[str]) -> float:
    """CPU seconds of reading all lines and decoding them with msgspec, and nothing else."""
    decode = msgspec.json.Decoder().decode
    begin = time.process_time()
    for path in files:
        with open(path, "rb") as file:
            for line in file:
                decode(line)
    return time.process_time() - begin


def _looking(files: Sequence[str]) -> float:
    """CPU seconds of a stat call for each file."""
    begin = time.process_time()
    for path in files:
        os.stat(path)
    return time.process_time() - begin


def _forms(store: SqliteStore) -> set[str]:
    """The forms of turns in the first sessions."""
    first = islice(fold_all(store, SESSIONS).values(), 20)
    return {turn.form for session in first for turn in stored_turns(store, session)}


def _timed(store: SqliteStore, job_id: str, env: dict[str, str], place: Path) -> tuple[float, Outcome]:
    begin = time.process_time()
    outcome, _ = run_index(store, job_id, env, place)
    return time.process_time() - begin, outcome


def run_index(
    store: SqliteStore, job_id: str, env: dict[str, str], place: Path, limits: Limits = LIMITS
) -> tuple[Outcome, int]:
    """The index stage of a new sync, from its request to its commit, and in how many chunks it read the files."""
    requested = JobRequested("sync", {"max_sessions": 50}, job_id, "bench", "h", "t" * 32, "s" * 16, 1)
    request_job(store, job_id, requested)
    held = claims.claim(store, job_id, "index", "bench", alive=lambda owner: True, max_attempts=5)
    assert isinstance(held, claims.Claim)
    chunks = 0

    def checkpoint(effects: Sequence[Effect], blobs: Sequence[bytes]) -> None:
        nonlocal chunks
        chunks += 1
        assert outcomes.checkpoint(store, held, effects=effects, blobs=blobs)

    context = StageContext(
        job_id=job_id,
        request=requested,
        stage="index",
        attempt=1,
        input=requested.params,
        outputs={},
        store=store,
        settings=config.Settings(),
        settings_of=lambda folder: config.Settings(),
        env=env,
        home=Home(place),
        host="h",
        now_ms=now_ms(),
        models=lambda: (_ for _ in ()).throw(AssertionError("index calls no model")),
        checkpoint=checkpoint,
    )
    outcome = index.run(context, limits)
    assert outcomes.complete(
        store,
        held,
        output=outcome.output,
        effects=outcome.effects,
        blobs=outcome.blobs,
        next_stages=outcome.next_stages,
    )
    return outcome, chunks
