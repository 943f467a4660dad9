"""Ending processes: always by pid and start time, in bounded time, and never by name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import msgspec

from lerim_jobs.machine import identity

__all__ = ["Ended", "Known", "descendants", "end", "known", "marked", "runs", "tops"]

_KILL_S = 3.0
_POLL_S = 0.02


class Known(msgspec.Struct, frozen=True):
    """One process; the start time tells it from a later one with the same pid."""

    pid: int
    start: str


class Ended(msgspec.Struct, frozen=True):
    """Pids that went when asked to, and pids that had to be killed."""

    stopped: list[int] = []
    killed: list[int] = []


def known(pid: int) -> Known | None:
    """The process that has the pid now, or None."""
    start = identity.started_at(pid)
    return Known(pid, start) if start else None


def runs(process: Known) -> bool:
    """Whether that very process still runs; a zombie does not."""
    return identity.still_runs(process.pid, process.start)


def end(
    processes: Iterable[Known],
    *,
    limit_s: float,
    ask: Sequence[Known] | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Ended:
    """SIGTERM, wait up to `limit_s`, then SIGKILL whatever is left. `meanwhile` is called often while waiting.

    `ask` names those that get the SIGTERM, for families whose head passes it on: a second one means "at once" to many.
    """
    running = [process for process in processes if runs(process)]
    for process in running if ask is None else ask:
        _signal(process, signal.SIGTERM)
    left = _wait_gone(running, limit_s, meanwhile)
    for process in left:
        _signal(process, signal.SIGKILL)
    _wait_gone(left, _KILL_S)
    killed = [process.pid for process in left]
    return Ended([process.pid for process in running if process.pid not in killed], killed)


def descendants(pid: int) -> list[Known]:
    """Children of the process and theirs; empty when it is gone."""
    import psutil

    try:
        found = [known(child.pid) for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []
    return [process for process in found if process]


def marked(variable: str, value: str) -> list[Known]:
    """Processes that were started with this environment variable, wherever they hang in the tree by now."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(variable) == value:
                found.append(known(process.pid))
    return [process for process in found if process]


def tops(processes: Sequence[Known]) -> list[Known]:
    """Those whose parent is not among them."""
    import psutil

    pids, found = {process.pid for process in processes}, []
    for process in processes:
        with suppress(psutil.Error):
            if psutil.Process(process.pid).ppid() not in pids:
                found.append(process)
    return found


def _signal(process: Known, number: signal.Signals) -> None:
    if runs(process):
        with suppress(ProcessLookupError):
            os.kill(process.pid, number)


def _wait_gone(processes: Sequence[Known], limit_s: float, meanwhile: Callable[[], None] = lambda: None) -> list[Known]:
    deadline = time.monotonic() + limit_s
    left = [process for process in processes if runs(process)]
    while left and time.monotonic() < deadline:
        meanwhile()
        time.sleep(_POLL_S)
        left = [process for process in left if runs(process)]
    return left
