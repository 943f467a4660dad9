"""Spans on their way into the local store: who keeps them waits for exactly that, for a bounded time, and none gets lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from lerim_jobs.tracing.export.local_sink import LocalSink
from lerim_jobs.tracing.local.store import SpanStore
from tests.waiting import until

NEVER_S = 3600.0


@pytest.fixture
def place(tmp_path: Path) -> Path:
    made = tmp_path / "traces.sqlite3"
    SpanStore(made).put([])
    return made


def tracer(sink: LocalSink) -> trace.Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(sink)
    return provider.get_tracer("test")


def record(sink: LocalSink, *names: str) -> None:
    """Spans that ended, all below one that has not."""
    tracing = tracer(sink)
    with trace.use_span(trace.NonRecordingSpan(PARENT)):
        for name in names:
            tracing.start_span(name).end()


PARENT = trace.SpanContext(1, 2, is_remote=True, trace_flags=trace.TraceFlags(1))


def stored(place: Path) -> list[str]:
    return sorted(span.name for span in SpanStore(place).of_trace(f"{1:032x}"))


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """Somebody else writes to the store meanwhile."""
    other = apsw.Connection(str(place))
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("COMMIT")
        other.close()


def test_what_was_kept_is_in_the_store_at_once(place: Path) -> None:
    sink = LocalSink(place, delay_s=NEVER_S)
    record(sink, "a", "b")
    assert stored(place) == []
    assert sink.keep(1.0)
    assert stored(place) == ["a", "b"]


def test_spans_of_a_long_attempt_are_stored_without_anybody_asking(place: Path) -> None:
    sink = LocalSink(place, delay_s=0.02)
    record(sink, "a")
    until(lambda: stored(place) == ["a"], 5, what="the first", poll_s=0.01)
    record(sink, "b")
    until(lambda: stored(place) == ["a", "b"], 5, what="the second", poll_s=0.01)


def test_a_store_that_is_locked_delays_for_so_long_and_loses_nothing(place: Path) -> None:
    sink = LocalSink(place, delay_s=0.02)
    with locked(place):
        record(sink, "a")
        begin = time.monotonic()
        assert not sink.keep(0.2)
        assert time.monotonic() - begin < 1.0
    until(lambda: stored(place) == ["a"], 5, what="the span that waited", poll_s=0.01)
    assert (sink.waiting, sink.dropped) == (0, 0)


def test_who_keeps_waits_for_what_another_thread_is_writing(place: Path) -> None:
    """Its own spans may have been taken from the queue by the other one: an empty queue says nothing."""
    sink = LocalSink(place, delay_s=NEVER_S)
    with locked(place):
        record(sink, "a")
        other = threading.Thread(target=sink.keep, args=(20.0,))
        other.start()
        until(lambda: sink.waiting == 0, 5, what="the other thread's write", poll_s=0.001)
        assert not sink.keep(0.05)
    assert sink.keep(5.0)
    assert stored(place) == ["a"]
    other.join(5)


def test_no_more_than_its_capacity_waits_and_the_rest_is_counted(tmp_path: Path) -> None:
    place = tmp_path / "away" / "traces.sqlite3"
    sink = LocalSink(place, delay_s=NEVER_S, capacity=3)
    record(sink, "a", "b")
    assert not sink.keep(0.0)
    record(sink, "c", "d", "e")
    assert not sink.keep(0.0)
    assert (sink.waiting, sink.dropped) == (3, 2)
    place.parent.mkdir()
    assert sink.keep(1.0)
    assert stored(place) == ["a", "b", "c"]


def test_what_ends_during_a_write_that_fails_counts_too(place: Path) -> None:
    sink = LocalSink(place, delay_s=NEVER_S, capacity=3)
    with locked(place):
        record(sink, "a", "b", "c")
        writing = threading.Thread(target=sink.keep, args=(0.2,))
        writing.start()
        until(lambda: sink.waiting == 0, 5, what="the write", poll_s=0.001)
        record(sink, "d", "e")
        writing.join(5)
        assert (sink.waiting, sink.dropped) == (3, 2)
    assert sink.keep(1.0)
    assert stored(place) == ["a", "b", "c"]


def test_a_sink_that_stops_writes_the_rest_in_bounded_time(place: Path) -> None:
    sink = LocalSink(place, delay_s=NEVER_S)
    record(sink, "a")
    assert sink.stop(1.0)
    assert stored(place) == ["a"]
    with locked(place):
        record(sink, "b")
        begin = time.monotonic()
        assert not sink.stop(0.2)
        assert time.monotonic() - begin < 1.0


def test_a_span_that_can_never_be_written_stops_nothing(place: Path) -> None:
    sink = LocalSink(place, delay_s=NEVER_S)
    tracing = tracer(sink)
    with trace.use_span(trace.NonRecordingSpan(PARENT)):
        tracing.start_span("too late", start_time=2**70).end()
    assert sink.keep(1.0)
    record(sink, "a")
    assert sink.keep(1.0)
    assert (stored(place), sink.dropped) == (["a"], 1)
