"""`python -m benchmarks.compare --dbos PYTHON`: durable stages a second, ours against bare dramatiq and DBOS, as ratios."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
from pathlib import Path

from benchmarks.compare import ours

_STAGES = 8


def main() -> None:
    """The engines take turns, so that a busy minute of the machine is everybody's; medians of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dbos", required=True, help="the Python that has DBOS")
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=8)
    args = parser.parse_args()
    speeds: dict[str, list[float]] = {name: [] for name in ("ours", "dramatiq", "queue", "children", "in_line")}
    with tempfile.TemporaryDirectory(prefix="lerim-compare-") as folder:
        for number in range(args.rounds):
            place = Path(folder) / str(number)
            place.mkdir()
            speeds["ours"].append(ours.durable(place, args.jobs, args.threads))
            speeds["dramatiq"].append(ours.bare_dramatiq(place, args.jobs, args.threads))
            for name, speed in _dbos(args.dbos, place, args.jobs, args.threads).items():
                speeds[name].append(speed)
    medians = {name: statistics.median(values) * _STAGES for name, values in speeds.items()}
    names = {
        "ours": "lerim-jobs: log, claims, hints over Redis",
        "dramatiq": "dramatiq alone: nothing is kept",
        "queue": "DBOS on SQLite: child workflows on its queue",
        "children": "DBOS on SQLite: child workflows, no queue",
        "in_line": "DBOS on SQLite: steps one after another, no queue",
    }
    for name, about in names.items():
        ratio = medians["ours"] / medians[name]
        print(f"{about:<52} {medians[name]:7.0f} stages/s   ours is {ratio:.2f} x")


def _dbos(python: str, place: Path, jobs: int, threads: int) -> dict[str, float]:
    script = Path(__file__).with_name("dbos_job.py")
    done = subprocess.run(
        [python, str(script), str(place), str(jobs), str(threads)], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
