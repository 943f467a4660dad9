"""`python -m tests.broken_worker HOW FOLDER`: `python -m workers` with one part broken on purpose, for tests of traces.

    bug             the finish stage of every job raises a bug once, whose message quotes what the job found
    kill-emitted    killed once when a job's spans have reached their receivers, before the log says so
    kill-queued     killed once when the log says a trace is closed, before a remote receiver has its spans

FOLDER holds a file for each thing that was broken already.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lerim_jobs.jobs.ending import Ended
from lerim_jobs.tracing.export.sink import Sink
from workers import __main__ as workers
from workers import runner
from workers.stages import finish


def main() -> None:
    """Break what was asked for, then be a worker."""
    how, folder = sys.argv.pop(1), Path(sys.argv.pop(1))
    folder.mkdir(exist_ok=True)
    {"bug": _bug, "kill-emitted": _kill_emitted, "kill-queued": _kill_queued}[how](folder)
    workers.main()


def _bug(folder: Path) -> None:
    run = finish.run

    def buggy(ctx: Any) -> Any:
        if _first(folder / ctx.job_id):
            found = list(Ended(ctx.store, ctx.job_id, ctx.request).outputs("extract"))
            raise ValueError(f"cannot count {found}")
        return run(ctx)

    finish.run = buggy


def _kill_emitted(folder: Path) -> None:
    def emitting(emit: Callable[..., int], telemetry: Any, events: Any) -> int:
        sent = emit(events)
        if _first(folder / "emitted"):
            (folder / "emitted").write_text(events[0].stream)
            assert telemetry.flush(5.0)
            os.kill(os.getpid(), signal.SIGKILL)
        return sent

    _around_closing(emitting, lambda job_id: None)


def _kill_queued(folder: Path) -> None:
    # The queue is emptied once a second at most, so the kill comes first.
    Sink.hurry = lambda self: None  # type: ignore[method-assign]

    def committed(job_id: str) -> None:
        # A job that an earlier one left open is closed in peace.
        left = folder / "emitted"
        if not (left.exists() and left.read_text() == f"job-{job_id}") and _first(folder / "queued"):
            os.kill(os.getpid(), signal.SIGKILL)

    _around_closing(lambda emit, telemetry, events: emit(events), committed)


def _around_closing(emitting: Callable[..., int], committed: Callable[[str], None]) -> None:
    module: Any = runner
    close = module.close_trace

    def closing(store: Any, job_id: str, owner: str, emit: Any, **options: Any) -> bool:
        telemetry = emit.func.__self__
        done: bool = close(store, job_id, owner, lambda events: emitting(emit, telemetry, events), **options)
        if done:
            committed(job_id)
        return done

    module.close_trace = closing


def _first(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


if __name__ == "__main__":
    main()
