"""What a first scan holds in memory: a chunk, however long the history is. Measured in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.transcripts import write_claude

_MB = 1 << 20
_SCAN = """
import json, sys
from pathlib import Path
from benchmarks.scan import run_index
from benchmarks.watched import WatchedStore, forget_peak, peak_mb
from lerim_jobs.sessions.chunk import Limits

place, kept = Path(sys.argv[1]), int(sys.argv[2])
store = WatchedStore(place / "log.sqlite3")
env = {"HOME": str(place), "CODEX_HOME": "/none"}
run_index(store, "nothing", {**env, "CLAUDE_CONFIG_DIR": "/none"}, place)
idle = forget_peak()
outcome, chunks = run_index(store, "first", {**env, "CLAUDE_CONFIG_DIR": str(place / "claude")}, place, Limits(kept_bytes=kept))
print(json.dumps({**outcome.output, "chunks": chunks, "grown_mb": peak_mb() - idle}))
"""


def scan(place: Path, kept_bytes: int) -> dict[str, float]:
    command = [sys.executable, "-c", _SCAN, str(place), str(kept_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, float] = json.loads(done.stdout)
    (place / "log.sqlite3").unlink()
    return found


def test_memory_grows_with_a_chunk_and_not_with_the_history(tmp_path: Path) -> None:
    words = "Some words about the shop and what is in it. " * 50
    for n in range(50):
        write_claude(tmp_path / "claude", f"s-{n:02d}", "/srv/shop", [f"{n} {part} {words}" for part in range(180)])
    small, whole = scan(tmp_path, _MB), scan(tmp_path, 64 * _MB)
    assert small["kept_bytes"] == whole["kept_bytes"] > 20_000_000
    assert (small["indexed"], whole["indexed"]) == (50, 50)
    assert small["chunks"] > 15
    assert whole["chunks"] == 1
    assert small["grown_mb"] < 14 < 20 < whole["grown_mb"]


def test_one_huge_file_takes_no_more_than_many_small_ones(tmp_path: Path) -> None:
    words = "Some words about the shop and what is in it. " * 50
    write_claude(tmp_path / "claude", "huge", "/srv/shop", [f"{part} {words}" for part in range(9000)])
    found = scan(tmp_path, _MB)
    assert (found["indexed"], found["turns"]) == (1, 18_000)
    assert found["kept_bytes"] > 20_000_000
    assert found["chunks"] > 15
    assert found["grown_mb"] < 30
