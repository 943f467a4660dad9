"""The local span store as a place spans go to: kept in memory, and written by whoever must not go on without them.

Who commits a stage's outcome writes its spans first, in its own thread: handing them to another one, with a connection of
its own, costs more than writing them. A thread writes what lies around for longer, as in an attempt that takes minutes.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.tracing.export.exporter import is_noise, record_of, without_secrets
from lerim_jobs.tracing.local.store import SpanStore

__all__ = ["LocalSink"]

_log = logging.getLogger("opentelemetry")
_CAPACITY = 8192
_AGAIN_S = 0.1


class LocalSink(SpanProcessor):
    """Spans that could not be written wait for the next try; with more than `capacity` waiting, new ones are dropped."""

    def __init__(self, path: Path, *, delay_s: float, capacity: int = _CAPACITY) -> None:
        self._store = SpanStore(path)
        self._delay_s, self._capacity = delay_s, capacity
        self._waiting: list[ReadableSpan] = []
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        """Held around each write: who gets it finds in the store what others took from the queue before."""
        self._some, self._stopped = threading.Event(), threading.Event()
        self.dropped = 0
        threading.Thread(target=self._write_for_ever, name="spans", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Spans that are not in the store yet."""
        return len(self._waiting)

    def on_end(self, span: ReadableSpan) -> None:
        if not (span.context and span.context.trace_flags.sampled) or is_noise(span):
            return
        with self._lock:
            if len(self._waiting) < self._capacity:
                self._waiting.append(span)
            else:
                self.dropped += 1
        if not self._some.is_set():
            self._some.set()

    def keep(self, limit_s: float) -> bool:
        """Whether all that ended before is in the store now. Tries again within the limit; never raises."""
        until = time.monotonic() + limit_s
        while not self._write(until):
            if time.monotonic() + _AGAIN_S > until:
                return False
            time.sleep(_AGAIN_S)
        return True

    def stop(self, limit_s: float) -> bool:
        """Write what waits, and nothing by itself any more."""
        self._stopped.set()
        self._some.set()
        return self.keep(limit_s)

    def shutdown(self) -> None:
        self.stop(limit_s=1.0)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.keep(timeout_millis / 1000)

    def _write_for_ever(self) -> None:
        while self._some.wait() and not self._stopped.wait(self._delay_s):
            self._some.clear()
            if not self._write(time.monotonic() + self._delay_s):
                self._some.set()

    def _write(self, until: float) -> bool:
        if not self._writing.acquire(timeout=max(0.0, until - time.monotonic())):
            return False
        try:
            with self._lock:
                batch, self._waiting = self._waiting, []
            return not batch or self._put(batch, until)
        finally:
            self._writing.release()

    def _put(self, batch: list[ReadableSpan], until: float) -> bool:
        try:
            self._store.put([record_of(without_secrets(span)) for span in batch], until - time.monotonic())
        except StoreUnavailable:
            with self._lock:
                both = batch + self._waiting
                self._waiting = both[: self._capacity]
                self.dropped += len(both) - len(self._waiting)
            return False
        except Exception:  # a span that cannot be written at all must not change how a stage ends
            _log.debug("spans", exc_info=True)
            with self._lock:
                self.dropped += len(batch)
        return True
