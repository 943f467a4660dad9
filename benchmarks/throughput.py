"""Fifty sessions through one real worker, with a model that takes one second: how near the slots come to their ideal.

Also what a worker costs before it does anything: its start and its memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from lerim_jobs.log.events import JobRequested, StageCompleted, StageStarted
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine.processes import workers_running
from lerim_jobs.paths import Home
from tests.model_server import ModelServer
from tests.transcripts import write_claude

__all__ = ["measure"]

SESSIONS, PROJECTS, SLOTS = 50, 10, 8
_ROLE = '[roles.{role}]\nprovider = "openai"\nmodel = "{role}-model"\napi_base = "{url}"\n'


def measure(place: Path, runs: int) -> list[tuple[str, str]]:
    """One sync; a second of model time is what it is divided by, so a single run is stable."""
    sessions = SESSIONS if runs > 3 else 16
    env = _machine(place, sessions)
    home = Home(place / "home")
    with ModelServer(delay_s=1.0) as server:
        config = "".join(
            _ROLE.format(role=role, url=server.url) for role in ("lead", "explorer", "extract", "summarize")
        )
        home.config.write_text(f"{config}[providers.openai]\nmax_concurrency = {SLOTS}\n", "utf-8")
        begin = time.perf_counter()
        with _worker(env) as worker:
            while not workers_running(home):
                time.sleep(0.02)
            start_s = time.perf_counter() - begin
            memory = _memory(worker)
            lerim = [sys.executable, "-m", "lerim_jobs.cli", "sync", "--window", "all", "--json"]
            subprocess.run(lerim, env=env, check=True, capture_output=True)
            used_s = _span_s(home)
        calls = len(server.requests)
    subprocess.run([sys.executable, "-m", "lerim_jobs.cli", "down"], env=env, check=True, capture_output=True)
    ideal_s = calls * 1.0 / SLOTS
    in_order = _integrated_in_order(home)
    return [
        ("worker: start to ready", f"{start_s / _bare(env):.0f} x bare python"),
        ("worker: memory of one process", f"{memory[0]:.0f} MB, of which its own {memory[1]:.0f} MB"),
        (
            f"{sessions} sessions, model of 1 s, {SLOTS} calls at once",
            f"{ideal_s / used_s:.2f} of the ideal speed-up ({calls} calls), order kept in {in_order} of {PROJECTS} projects",
        ),
    ]


def _machine(place: Path, sessions: int) -> dict[str, str]:
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "LERIM_HOME": str(place / "home"),
        "CLAUDE_CONFIG_DIR": str(place / "claude"),
        "CODEX_HOME": str(place / "codex"),
    }
    (place / "home").mkdir(parents=True)
    for number in range(PROJECTS):
        folder = place / f"project{number}"
        folder.mkdir()
        add = [sys.executable, "-m", "lerim_jobs.cli", "project", "add", str(folder)]
        subprocess.run(add, env=env, check=True, capture_output=True)
    for number in range(sessions):
        said = [f"REMEMBER: fact {number} of the project is kept."]
        session = f"cccccccc-0000-4000-8000-{number:012d}"
        folder = place / f"project{number % PROJECTS}"
        write_claude(place / "claude", session, str(folder), said, day=1 + number // PROJECTS)
    return env


@contextmanager
def _worker(env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "workers", "--slots", str(SLOTS)], env=env, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def _memory(worker: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Resident and unshared MB of the process that runs stages."""
    child = max(psutil.Process(worker.pid).children(), key=lambda one: one.memory_info().rss)
    found = child.memory_full_info()
    return found.rss / 1e6, found.uss / 1e6


def _bare(env: dict[str, str]) -> float:
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], env=env, check=True)
        times.append(time.perf_counter() - begin)
    return sorted(times)[2]


def _span_s(home: Home) -> float:
    """From the end of the index stage to the last integration: the part that models are asked in."""
    times: dict[str, list[int]] = {"index": [], "integrate": []}
    for row in _rows(home):
        event = row.event
        family = event.stage.partition(":")[0] if isinstance(event, StageCompleted) else ""
        if family in times:
            times[family].append(row.at_ms)
    return (max(times["integrate"]) - min(times["index"])) / 1000


def _integrated_in_order(home: Home) -> int:
    """Projects whose sessions were integrated the oldest first."""
    started: dict[str, list[str]] = {}
    sessions: dict[str, tuple[str, str]] = {}
    for row in _rows(home):
        event = row.event
        if row.type == "StageRequested" and (session := event.input.get("session")):
            sessions[event.stage] = (session["project_id"], session["session_id"])
        if isinstance(event, StageStarted) and event.stage.startswith("integrate:"):
            project, session_id = sessions[event.stage]
            started.setdefault(project, []).append(session_id)
    return sum(order == sorted(order) for order in started.values())


def _rows(home: Home) -> list:  # type: ignore[type-arg]
    store = SqliteStore(home.log)
    try:
        (job,) = store.read_all(types=[JobRequested.__name__])
        return store.read(job.stream)
    finally:
        store.close()
