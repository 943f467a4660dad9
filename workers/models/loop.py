"""One event-loop thread per process for all model calls: clients shared between loops fail in ways hard to find.

The thread is a daemon, so it never holds up a process that must stop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

from workers import scope

__all__ = ["run"]

T = TypeVar("T")
_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}


def run(work: Coroutine[Any, Any, T], *, timeout_s: float | None = None) -> T:
    """Run a coroutine on the loop thread and wait; the caller's context variables go with it.

    Raises ClaimLost when the claim of the calling stage is lost meanwhile, and RuntimeError when called from the loop
    thread itself, where waiting would never end.
    """
    loop = _loop()
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is loop:
        work.close()
        raise RuntimeError("a blocking model call inside the model loop would wait for itself")
    return scope.result(asyncio.run_coroutine_threadsafe(work, loop), timeout_s)


def _loop() -> asyncio.AbstractEventLoop:
    """This process's loop; a forked child gets one of its own."""
    pid = os.getpid()
    with _lock:
        if pid not in _loops:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="models", daemon=True).start()
            _loops[pid] = loop
        return _loops[pid]
