"""A receiver of spans: batched, and counted until it took them."""

from __future__ import annotations

import threading

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from lerim_jobs.tracing.export.exporter import Guard, Outbox

__all__ = ["Sink"]

# A big job's skeleton is emitted in one go; the SDK's default of 2048 would drop part of it.
_QUEUE_SIZE = 8192


class Sink(SpanProcessor):
    """A batch processor that knows how many spans it was given and how many its receiver took."""

    def __init__(self, exporter: SpanExporter, *, delay_ms: int, outbox: Outbox | None = None) -> None:
        self._guard = Guard(exporter, outbox=outbox)
        self._batch = BatchSpanProcessor(self._guard, max_queue_size=_QUEUE_SIZE, schedule_delay_millis=delay_ms)
        self._lock = threading.Lock()
        self._given = 0
        self._hurrying = threading.Lock()

    @property
    def missing(self) -> int:
        """Given and not delivered: still waiting, refused or dropped."""
        return self._given - self._guard.delivered

    @property
    def given(self) -> int:
        """Spans that were handed to this sink so far."""
        return self._given

    @property
    def delivered(self) -> int:
        """How many of them its receiver took."""
        return self._guard.delivered

    def on_end(self, span: ReadableSpan) -> None:
        if span.context and span.context.trace_flags.sampled:
            with self._lock:
                self._given += 1
        self._batch.on_end(span)

    def flush(self) -> bool:
        """Blocks until the receiver answered; bound it from outside."""
        return self._batch.force_flush()

    def hurry(self) -> None:
        """Flush in the background; does nothing while an earlier one still waits for its receiver."""
        if self._hurrying.acquire(blocking=False):
            threading.Thread(target=self._flush_and_release, name="span-flush", daemon=True).start()

    def stop(self) -> None:
        """Deliver the rest and stop; blocks up to 30 s, bound it from outside."""
        self._batch.shutdown()  # type: ignore[no-untyped-call]  # the SDK leaves it without annotations

    def _flush_and_release(self) -> None:
        try:
            self.flush()
        finally:
            self._hurrying.release()

    def shutdown(self) -> None:
        self.stop()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self.flush()
