"""What runs for one claim outside its thread: model calls, which end when the claim is lost."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from contextvars import ContextVar
from typing import Any, TypeVar

from lerim_jobs.errors import ClaimLost

__all__ = ["Scope", "current", "result"]

T = TypeVar("T")


class Scope:
    """Futures of one claim. Once it has ended, what is added is cancelled at once."""

    def __init__(self) -> None:
        self._running: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self.ended = False

    def add(self, future: Future[Any]) -> None:
        """Tie the future's life to the claim's."""
        with self._lock:
            self._running.add(future)
        future.add_done_callback(self._forget)
        if self.ended:
            future.cancel()

    def end(self) -> None:
        """Cancel everything, now and later."""
        self.ended = True
        with self._lock:
            running = list(self._running)
        for future in running:
            future.cancel()

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._running.discard(future)


current: ContextVar[Scope | None] = ContextVar("lerim_claim_scope", default=None)
"""The scope of the claim this thread works for; set by `Leases.holding`."""


def result(future: Future[T], timeout_s: float | None) -> T:
    """Wait for the future. Raises ClaimLost when the claim is lost meanwhile."""
    scope = current.get()
    if scope:
        scope.add(future)
    try:
        return future.result(timeout_s)
    except CancelledError:
        raise ClaimLost("the job was cancelled, or another worker took the stage over") from None
