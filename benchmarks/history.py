"""A first sync of a long history: what one worker holds in memory, how long it keeps others waiting, in how many chunks.

`python -m benchmarks.history FOLDER` scans the Claude Code sessions of a folder into a new log beside them and prints figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.scan import run_index
from benchmarks.sessions import generate
from benchmarks.watched import WatchedStore, forget_peak, peak_mb
from lerim_jobs.log.events import ProjectAdded

__all__ = ["measure"]

_FILE_BYTES = 86_000


def measure(place: Path, size_bytes: int, *, files: int | None = None) -> list[tuple[str, str]]:
    """Figures for a history of that size, in files of 86 KB unless told otherwise; a process of its own scans it."""
    count = files or size_bytes // _FILE_BYTES
    size = generate(place / "claude" / "projects" / "-srv-shop", count=count, size_bytes=size_bytes // count)
    done = subprocess.run([sys.executable, "-m", "benchmarks.history", str(place)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found = json.loads(done.stdout)
    assert found["indexed"] == count, found
    name = f"history: {size / 1e6:,.0f} MB in {count:,} files"
    return [
        (
            f"{name}, first sync",
            f"{found['seconds']:.1f} s, {found['cpu_seconds']:.1f} s CPU, {found['chunks']} chunks",
        ),
        ("history: peak memory above idle", f"{found['peak_mb']:.0f} MB above {found['idle_mb']:.0f} MB"),
        (
            "history: longest of its transactions",
            f"{found['longest_s'] * 1000:.0f} ms of {found['transactions']}, {found['kept_bytes'] / 1e6:.0f} MB kept",
        ),
    ]


def scan(place: Path) -> dict[str, Any]:
    """One first sync, up to the commit of the sessions it takes."""
    store = WatchedStore(place / "history.sqlite3")
    store.append("project-p", [ProjectAdded("p", "shop", "/srv/shop", "h")])
    env = {"HOME": str(place), "CLAUDE_CONFIG_DIR": str(place / "nothing"), "CODEX_HOME": str(place / "nothing")}
    run_index(store, "before", env, place)  # what a worker loads when it first works is no part of the history
    store.seconds.clear()
    idle_mb, begin, begin_cpu = forget_peak(), time.perf_counter(), time.process_time()
    outcome, chunks = run_index(store, "first", {**env, "CLAUDE_CONFIG_DIR": str(place / "claude")}, place)
    return {
        **outcome.output,
        "seconds": time.perf_counter() - begin,
        "cpu_seconds": time.process_time() - begin_cpu,
        "idle_mb": idle_mb,
        "peak_mb": peak_mb() - idle_mb,
        "transactions": len(store.seconds),
        "longest_s": max(store.seconds),
        "chunks": chunks,
    }


if __name__ == "__main__":
    print(json.dumps(scan(Path(sys.argv[1]))))
