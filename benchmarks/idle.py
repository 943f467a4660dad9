"""What lerim-jobs costs while nobody uses it: CPU and memory of every process that `lerim up` keeps, and model calls."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.paths import Home

__all__ = ["measure"]

_SETTLE_S = 15.0


def measure(place: Path, seconds: float) -> list[tuple[str, str]]:
    """Bring everything up with one empty project, let it settle, then only look at /proc before and after."""
    project = place / "project"
    project.mkdir(parents=True)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(place),
        "LERIM_HOME": str(place / "home"),
        "LERIM_PROVIDER": "offline",
        "CLAUDE_CONFIG_DIR": str(place / "claude"),
        "CODEX_HOME": str(place / "codex"),
    }
    _lerim(env, "project", "add", str(project))
    try:
        _lerim(env, "up")
        # What the first job loads stays: growth after it would be a leak.
        _lerim(env, "sync")
        time.sleep(_SETTLE_S)
        before, begin = _processes(Home(place / "home")), time.monotonic()
        time.sleep(seconds)
        after, passed_s = _processes(Home(place / "home")), time.monotonic() - begin
    finally:
        _lerim(env, "down")
    return _rows(before, after, passed_s, _model_calls(Home(place / "home")))


def _rows(
    before: dict[int, tuple[str, float, float]],
    after: dict[int, tuple[str, float, float]],
    passed_s: float,
    calls: int,
) -> list[tuple[str, str]]:
    if before.keys() != after.keys():
        raise RuntimeError(f"processes came or went while idle: {before} {after}")
    used = {pid: 100 * (after[pid][1] - before[pid][1]) / passed_s for pid in before}
    parts = ", ".join(f"{before[pid][0]} {used[pid]:.2f}" for pid in sorted(used))
    rss = [sum(one[2] for one in state.values()) for state in (before, after)]
    return [
        (
            f"idle: CPU of {len(used)} processes over {passed_s:.0f} s",
            f"{sum(used.values()):.2f} % of one core ({parts})",
        ),
        ("idle: memory, and how it grew", f"{rss[0] / 1e6:.0f} MB, {(rss[1] - rss[0]) / 1e6:+.2f} MB"),
        ("idle: model calls", str(calls)),
    ]


def _processes(home: Home) -> dict[int, tuple[str, float, float]]:
    """Name, CPU seconds and resident bytes of supervisord, all below it, and the embedded Redis, by pid."""
    supervisor = psutil.Process(int((home.run / "supervisord.pid").read_text("ascii")))
    redis = psutil.Process(msgspec.json.decode((home.run / "redis.json").read_bytes())["pid"])
    found = {}
    for process in (supervisor, *supervisor.children(recursive=True), redis):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found[process.pid] = (_name(process), times.user + times.system, float(process.memory_info().rss))
    return found


def _name(process: psutil.Process) -> str:
    words = process.cmdline()
    known = [word for word in ("supervisor.supervisord", "scheduler", "workers") if word in words]
    return known[0].rpartition(".")[2] if known else process.name()


def _model_calls(home: Home) -> int:
    store = SqliteStore(home.log)
    try:
        return len(store.read_all(types=["ModelCalled", "ModelCallFailed"]))
    finally:
        store.close()


def _lerim(env: dict[str, str], *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "lerim_jobs.cli", *arguments], env=env, check=True, capture_output=True)
