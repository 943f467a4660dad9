"""`python -m tests.killing_worker ARM`: `python -m workers` that kills itself right before or after storing an answer.

The file ARM says where: `before 3` or `after 3`, counted over all processes since it was written. Models are loaded once in
the parent, so that the next process is there soon after a kill.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from lerim_jobs.jobs import sweep
from lerim_jobs.kinds import all_stages
from workers import __main__ as workers
from workers.log_journal import LogJournal
from workers.registry import load_stage


def main() -> None:
    """Arm the journal, then work."""
    arm = Path(sys.argv.pop(1))
    for stage in all_stages():
        load_stage(stage)
    record = LogJournal.record

    def killing(self: LogJournal, *arguments: Any) -> None:
        here = _boundary(arm)
        if here("before"):
            os.kill(os.getpid(), signal.SIGKILL)
        record(self, *arguments)
        if here("after"):
            os.kill(os.getpid(), signal.SIGKILL)

    sweep.SWEEP_S = 0.3  # what died is found sooner: there are many deaths to get through
    LogJournal.record = killing  # type: ignore[method-assign, assignment]
    work_for_ever()


def work_for_ever() -> None:
    """Run `python -m workers` in a child, and another one whenever it has ended, until told to stop."""
    child = 0

    def stop(signum: int, frame: object) -> None:
        if child:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    while True:
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            workers.main()
        os.waitpid(child, 0)


def _boundary(arm: Path) -> Any:
    """Count this answer; the returned function says whether to die at a side of it."""
    if not arm.exists():
        return lambda side: False
    counter = arm.with_suffix(".count")
    with counter.open("ab") as file:
        file.write(b".")
        number = file.tell()

    def here(side: str) -> bool:
        if not arm.exists() or arm.read_text().split() != [side, str(number)]:
            return False
        arm.unlink()
        counter.unlink()
        return True

    return here


if __name__ == "__main__":
    main()
