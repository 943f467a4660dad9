"""Telemetry of one process: where its spans go, and a stop that is bounded whatever the receivers do.

Start it after the fork and only in processes that record or close traces. Jobs never wait for a receiver: what cannot
be delivered is dropped and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import JobRequested
from lerim_jobs.log.store import StageRow
from lerim_jobs.paths import Home
from lerim_jobs.tracing.export.emission import emit
from lerim_jobs.tracing.local.store import SpanStore
from lerim_jobs.tracing.local.tree import left_behind, lost_calls, stand_ins, workers_of
from lerim_jobs.tracing.names import SCOPE
from lerim_jobs.tracing.skeleton.record import SpanRecord
from lerim_jobs.tracing.skeleton.spans import resent, skeleton, started

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer, TracerProvider

    from lerim_jobs.tracing.export.local_sink import LocalSink
    from lerim_jobs.tracing.export.sink import Sink

__all__ = ["Telemetry"]

Alive = Callable[[str], bool | None]
_KEEP_S = 1.0


class Telemetry:
    """A process's tracer provider and its sinks. `notes` are lines for the user: what was asked for and cannot be."""

    def __init__(
        self,
        provider: TracerProvider,
        *,
        home: Home,
        local: LocalSink | None = None,
        remote: Sequence[Sink] = (),
        notes: Sequence[str] = (),
        disabled: bool = False,
        also_stop: Callable[[], object] | None = None,
    ) -> None:
        self.provider = provider
        # Getting a tracer costs the SDK as much as a span.
        self._emitting = provider.get_tracer(SCOPE)
        self.notes = tuple(notes)
        self.disabled = disabled
        self._local, self._remote = local, tuple(remote)
        self._spans = SpanStore(home.traces)
        self._also_stop = also_stop
        self.on_the_way: dict[str, list[int]] = {}
        """Emitted jobs -> how much each receiver has to take until it has them."""

    def tracer(self, scope: str = "lerim_jobs") -> Tracer:
        """A tracer for spans under an attempt; a span started anywhere else is not recorded."""
        return self.provider.get_tracer(scope)

    def emit_job(self, events: list[Recorded], *, alive: Alive = lambda worker: None) -> int:
        """Send a finished job's skeleton and stand-ins for spans that died with a worker; returns how many.

        `alive` says of a worker whether it lives, None where that cannot be told.
        """
        request = next((row.event for row in events if row.type == JobRequested.__name__), None)
        if self.disabled or not isinstance(request, JobRequested) or not request.sampled:
            return 0
        self._settle_locally()
        bones = skeleton(events)
        try:
            # Whoever closed the trace before stored the skeleton as well: those spans are no leaves.
            known = {bone.span_id for bone in bones}
            leaves = [leaf for leaf in self._spans.of_trace(request.trace_id) if leaf.span_id not in known]
        except StoreUnavailable:
            leaves = []
        gone = [worker for worker in workers_of(bones) if alive(worker) is False]
        lost = lost_calls(events, bones, leaves, gone)
        behind = left_behind(bones, leaves, gone) if self._remote else []
        unsent = self._unsent(request.trace_id, behind)
        sent = emit(self._emitting, [*bones, *lost, *stand_ins(bones, [*leaves, *lost], gone), *unsent])
        job_id = events[0].stream.removeprefix("job-")
        if self._remote:
            self.on_the_way[job_id] = [sink.given for sink in self._remote]
        self._settle_locally()
        return sent

    def arrived(self) -> list[str]:
        """Jobs emitted here whose spans all receivers have taken, told once."""
        took = [sink.delivered for sink in self._remote]
        found = [
            job_id
            for job_id, wanted in list(self.on_the_way.items())
            if all(has >= given for has, given in zip(took, wanted, strict=True))
        ]
        for job_id in found:
            self.on_the_way.pop(job_id, None)
        return found

    @property
    def is_remote(self) -> bool:
        """Whether spans leave this machine by a receiver whose answers are known."""
        return bool(self._remote)

    def emit_resent(self, request: JobRequested, row: StageRow) -> None:
        """Note that a sweep sent a hint again which had been lost, or whose worker had."""
        if request.sampled and not self.disabled:
            emit(self._emitting, [resent(request, row, time.time_ns())])

    def emit_started(self, request: JobRequested, job_id: str) -> None:
        """Show a job that just began in backends that show no open spans."""
        if request.sampled and not self.disabled:
            emit(self._emitting, [started(request, job_id)])

    def keep(self) -> None:
        """What was recorded here so far is in the local store when this returns, so that no death takes it along.

        Bounded; a store that cannot be written delays nothing for longer.
        """
        if self._local:
            self._local.keep(_KEEP_S)

    def flush(self, limit_s: float = 3.0) -> bool:
        """Hand over what is waiting; False when a receiver took longer. Never raises."""
        local = self._local
        kept = [lambda: local.keep(limit_s)] if local else []
        return _all_within(limit_s, [*kept, *(sink.flush for sink in self._remote)])

    def shutdown(self, limit_s: float = 3.0) -> bool:
        """Deliver what is waiting and stop; False when a receiver took longer, then the rest is lost. Never raises.

        Afterwards end the process with `os._exit` if it must end now: an exporter may still sit on its socket.
        """
        local = self._local
        stops: list[Callable[[], object]] = [lambda: local.stop(limit_s)] if local else []
        stops += [sink.stop for sink in self._remote]
        return _all_within(limit_s, [*stops, self._also_stop] if self._also_stop else stops)

    def _unsent(self, trace_id: str, behind: list[SpanRecord]) -> list[SpanRecord]:
        """Those that no receiver has taken; what this process itself still has waiting is sent first."""
        try:
            if any(leaf.span_id not in self._spans.sent(trace_id) for leaf in behind):
                self.flush(_KEEP_S)
            taken = self._spans.sent(trace_id)
        except StoreUnavailable:
            return []
        return [leaf for leaf in behind if leaf.span_id not in taken]

    def _settle_locally(self) -> None:
        """The local store is up to date; receivers are told to hurry, but a job's end waits for none of them."""
        for sink in self._remote:
            sink.hurry()
        self.keep()

    @property
    def dropped(self) -> int:
        """Spans that were handed to a remote receiver's queue and have not been delivered; exact after `shutdown`."""
        return sum(sink.missing for sink in self._remote)


def _all_within(limit_s: float, actions: Iterable[Callable[[], object]]) -> bool:
    """Run all at once in daemon threads, because the SDK's own time limits are not kept
    (open-telemetry/opentelemetry-python#4568).
    """
    until = time.monotonic() + limit_s
    threads = [threading.Thread(target=_quietly, args=(action,), daemon=True) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def _quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception:  # a broken exporter must not change how a command ends
        logging.getLogger("opentelemetry").debug("telemetry", exc_info=True)
