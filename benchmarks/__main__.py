"""`python -m benchmarks [--quick]`: command start, session scan, stage overhead, enqueue to start, throughput, search.

`--idle SECONDS` measures what everything costs while nobody uses it, `--search-only MEMORIES` a large search,
`--tracing-only ROUNDS` what tracing adds to a stage that does nothing; then nothing else is measured.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import idle, offline, overhead, publishing, scan, searching, stages, throughput, tracing


def main() -> None:
    """Print one table; every figure is a median, ratios are taken within this run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, for a look")
    parser.add_argument("--idle", type=float, metavar="SECONDS", help="only the idle cost, over so many seconds")
    parser.add_argument("--search-only", type=int, metavar="MEMORIES", help="only search, among so many memories")
    parser.add_argument("--tracing-only", type=int, metavar="ROUNDS", help="only tracing on a no-op stage, so often")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lerim-bench-") as folder:
        place = Path(folder)
        if given.idle:
            rows = idle.measure(place, given.idle)
        elif given.tracing_only:
            rows = [row for n in range(given.tracing_only) for row in tracing.measure_nothing(place / str(n), 5)]
        elif given.search_only:
            rows = searching.measure(place, given.search_only)
        else:
            rows = _all(place, 3 if given.quick else 9)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value}")


def _all(place: Path, runs: int) -> list[tuple[str, str]]:
    rows = [
        *_starts(place, runs),
        *scan.measure(place, runs),
        *overhead.measure(place, runs),
        *stages.measure(place, runs),
    ]
    rows += tracing.measure(place, runs)
    rows += throughput.measure(place / "throughput", runs)
    rows += publishing.measure(place, runs)
    rows += [(f"offline rules, {part} transcripts", str(offline.score(part))) for part in ("held out", "tuned")]
    return rows + searching.measure(place, 2000 * runs)


def _starts(place: Path, runs: int) -> list[tuple[str, str]]:
    env = {"LERIM_HOME": str(place / "home"), "PATH": "/usr/bin:/bin"}
    lerim = [sys.executable, "-m", "lerim_jobs.cli"]
    commands = {
        "--version": [*lerim, "--version"],
        "status": [*lerim, "status"],
        "jobs list": [*lerim, "jobs", "list"],
        "context": [*lerim, "context", "--project", "shop"],
        "memory search": [*lerim, "memory", "search", "orders"],
    }
    (place / "shop").mkdir(exist_ok=True)
    for once in (["init", "--yes"], ["project", "add", str(place / "shop")]):
        subprocess.run([*lerim, *once], env=env, capture_output=True, check=True)
    bare = _median(lambda: subprocess.run([sys.executable, "-c", "pass"], env=env, check=True), runs)
    rows = [("start: bare python -c pass", f"{bare * 1000:.0f} ms = 1.0")]
    for name, command in commands.items():
        median = _median(partial(subprocess.run, command, env=env, capture_output=True, check=True), runs)
        rows.append((f"start: lerim {name}", f"{median / bare:.1f} x bare python"))
    return rows


def _median(run: Callable[[], object], runs: int) -> float:
    run()
    times = []
    for _ in range(runs):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    main()
