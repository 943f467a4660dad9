"""`python -m tests.second_tries [PYTEST OPTIONS]`: run the tests; a few that fail get a second try, which is recorded.

Tests with real processes and real kills share two cores with everything else, so one of them may be short of time. That is a
defect of the test, to be looked into: each second try is counted in RECORD, and more than MOST of them in a run are a failure.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

__all__ = ["MOST", "RECORD", "main"]

MOST = 2
RECORD = Path(".second-tries.txt")
_FAILED = Path(".pytest_cache/v/cache/lastfailed")
_SOME_FAILED = 1


def main(options: Sequence[str]) -> int:
    """Pytest's exit status: of the second tries where there were any, else of the first run."""
    status = _pytest("--cache-clear", *options)
    failed = sorted(json.loads(_FAILED.read_bytes())) if status == _SOME_FAILED else []
    if not failed:
        return status
    if len(failed) > MOST:
        print(f"{len(failed)} tests failed: too many for a second try, which at most {MOST} get.")
        return status
    print("Trying again, one after the other, what may only have been short of time:", *failed, sep="\n  ", flush=True)
    _record(failed)
    return _pytest("-n", "0", *failed)


def _pytest(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "pytest", "-q", *arguments], check=False).returncode


def _record(tests: Sequence[str]) -> None:
    """Add to the file, a line `COUNT TEST` for each test that ever needed a second try here, the most often tried first."""
    lines = RECORD.read_text("utf-8").splitlines() if RECORD.exists() else []
    counts = Counter({test: int(count) for count, test in (line.split(" ", 1) for line in lines)})
    counts.update(tests)
    RECORD.write_text("".join(f"{count} {test}\n" for test, count in counts.most_common()), "utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
