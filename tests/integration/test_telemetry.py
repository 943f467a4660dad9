"""Telemetry end to end: what reaches an OTLP receiver and the local store, and how it ends when nobody answers."""

from __future__ import annotations

import logging
import logging.handlers
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from lerim_jobs.config import Settings, Tracing
from lerim_jobs.log.events import JobRequested
from lerim_jobs.paths import Home
from lerim_jobs.tracing import export
from lerim_jobs.tracing.export.backends import start
from lerim_jobs.tracing.export.emission import emit
from lerim_jobs.tracing.export.exporter import record_of
from lerim_jobs.tracing.export.local_sink import LocalSink
from lerim_jobs.tracing.export.preset import PresetIdGenerator, sampler
from lerim_jobs.tracing.export.telemetry import Telemetry
from lerim_jobs.tracing.local.store import SpanStore
from lerim_jobs.tracing.local.tree import TraceHealth, check, merge
from lerim_jobs.tracing.propagation import under_attempt
from lerim_jobs.tracing.skeleton.spans import attempt_span_id, skeleton
from tests.job_streams import TRACE_ID, JobStream
from tests.otlp_receiver import GrpcReceiver, OtlpReceiver

WHOLE = TraceHealth(roots=1, orphans=0, duplicates=0)
ON = Settings(tracing=Tracing(enabled=True))
LEAD = "integrate:aabbccdd"


def retried_job(*, sampled: bool = True) -> JobStream:
    stream = JobStream(sampled=sampled).requested("index").started("index").failed("index").started("index", 2)
    stream.completed("index", 2).requested(LEAD, needs=["index"]).started(LEAD).started(LEAD, 2, takeover=True)
    return stream.completed(LEAD, 2).requested("finish").run("finish").finished(memories={"added": 1})


def request_of(stream: JobStream) -> JobRequested:
    return stream.rows[0].as_(JobRequested)


@contextmanager
def telemetry(home: Path, env: dict[str, str]) -> Iterator[Telemetry]:
    running = start(Home(home), ON, env)
    try:
        yield running
    finally:
        running.shutdown(limit_s=3.0)


def record_leaf(running: Telemetry, stream: JobStream, stage: str, attempt: int, name: str = "chat m") -> None:
    with under_attempt(request_of(stream), stage, attempt, job_id="sync-1", session_id="s-1"):
        running.tracer().start_span(name).end()


def test_emitted_records_keep_ids_times_links_events_and_status() -> None:
    memory = InMemorySpanExporter()
    provider = TracerProvider(sampler=sampler(), id_generator=PresetIdGenerator(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    bones = skeleton(retried_job().rows)
    assert emit(provider.get_tracer("lerim_jobs"), bones) == len(bones)
    assert [record_of(span) for span in memory.get_finished_spans()] == bones


def test_running_spans_are_not_emitted() -> None:
    provider = TracerProvider(sampler=sampler(), id_generator=PresetIdGenerator(), shutdown_on_exit=False)
    assert emit(provider.get_tracer("lerim_jobs"), skeleton(JobStream().requested("index").rows)) == 0


def test_receiver_and_local_store_get_one_whole_trace(tmp_path: Path) -> None:
    stream = retried_job()
    with OtlpReceiver() as receiver:
        with telemetry(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}) as running:
            record_leaf(running, stream, "index", 2)
            assert running.emit_job(stream.rows) == len(skeleton(stream.rows))
        assert receiver.health() == WHOLE
        assert receiver.posts[0].path == "/v1/traces"
        assert receiver.resources()[0]["service.name"] == "lerim"
        received = {span.span_id for span in receiver.spans()}
        leaf = next(span for span in receiver.spans() if span.name == "chat m")
    stored = SpanStore(Home(tmp_path).traces).of_trace(TRACE_ID)
    assert {span.span_id for span in stored} == received
    assert check(stored) == WHOLE
    assert check(merge(skeleton(stream.rows), stored)) == WHOLE
    assert leaf.parent_span_id == attempt_span_id(TRACE_ID, "index", 2)
    assert (leaf.attributes["lerim.stage"], leaf.attributes["gen_ai.conversation.id"]) == ("index", "s-1")
    assert running.dropped == 0


def test_jobs_are_remembered_until_they_arrived_and_only_where_something_is_remote(tmp_path: Path) -> None:
    rows = retried_job().rows
    with telemetry(tmp_path / "local", {}) as running:
        running.emit_job(rows)
        assert running.on_the_way == {}
    with OtlpReceiver() as receiver, telemetry(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}) as running:
        running.emit_job(rows)
        assert len(running.on_the_way) == 1
        assert running.flush()
        assert running.arrived() == ["sync-1"]
        assert running.on_the_way == {}


def test_span_that_died_with_its_worker_leaves_no_orphan(tmp_path: Path) -> None:
    stream = retried_job()
    with OtlpReceiver() as receiver:
        with telemetry(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}) as running:
            with under_attempt(request_of(stream), LEAD, 1, job_id="sync-1"):
                agent = running.tracer().start_span("invoke_agent lead")  # killed before it ends
                running.tracer().start_span("chat m", context=trace.set_span_in_context(agent)).end()
            running.emit_job(stream.rows)
        assert receiver.health() == WHOLE
        assert "lost with its worker" in {span.name for span in receiver.spans()}


def test_unsampled_job_sends_nothing(tmp_path: Path) -> None:
    stream = retried_job(sampled=False)
    with OtlpReceiver() as receiver, telemetry(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}) as running:
        record_leaf(running, stream, "index", 2)
        running.tracer().start_span("nobody asked for this root").end()
        assert running.emit_job(stream.rows) == 0
        running.shutdown()
        assert receiver.posts == []
    assert SpanStore(Home(tmp_path).traces).of_trace(TRACE_ID) == []


def test_a10_standard_variables_are_honoured_from_the_given_environment_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=process")
        env = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.url}/custom/traces",
            "OTEL_EXPORTER_OTLP_HEADERS": "x-team=given",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
            "OTEL_SERVICE_NAME": "mine",
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=dev",
        }
        with telemetry(tmp_path, env) as running:
            running.emit_job(retried_job().rows)
        assert (receiver.posts[0].path, receiver.posts[0].headers["x-team"]) == ("/custom/traces", "given")
        assert receiver.posts[0].headers["content-encoding"] == "gzip"
        assert receiver.resources()[0]["service.name"] == "mine"
        assert receiver.resources()[0]["deployment.environment"] == "dev"


@pytest.mark.parametrize("switch", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_a10_receiver_can_be_switched_off(tmp_path: Path, switch: dict[str, str]) -> None:
    with OtlpReceiver() as receiver:
        with telemetry(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, **switch}) as running:
            running.emit_job(retried_job().rows)
        assert receiver.posts == []


def test_a5_secrets_leave_no_process_whatever_a_library_records(tmp_path: Path) -> None:
    stream = retried_job()
    with OtlpReceiver() as receiver:
        with telemetry(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}) as running:
            with under_attempt(request_of(stream), "index", 2, job_id="sync-1"):
                span = running.tracer().start_span("POST sk-marker1234567")
                span.set_attribute("http.request.header.authorization", ["marker"])
                span.set_attribute("http.request.body", 'x "Bearer sk-marker1234567" y')
                span.add_event("exception", {"exception.message": "api_key=marker1234567"})
                span.set_status(trace.StatusCode.ERROR, "used sk-marker1234567")
                span.end()
            running.emit_job(stream.rows)
        assert receiver.posts
        assert not receiver.holds("marker1234567")
        assert not receiver.holds("\x06marker")
    stored = SpanStore(Home(tmp_path).traces).of_trace(TRACE_ID)
    assert "marker" not in str([span for span in stored if span.name.startswith("POST")])


def test_redis_polling_outside_a_job_is_dropped(tmp_path: Path) -> None:
    from lerim_jobs.tracing.export.exporter import Guard

    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(guard := Guard(memory)))
    tracer = provider.get_tracer("opentelemetry.instrumentation.redis")
    tracer.start_span("EVALSHA").end()
    with tracer.start_as_current_span("in a job"), tracer.start_as_current_span("LPUSH"):
        pass
    assert [span.name for span in memory.get_finished_spans()] == ["LPUSH"]
    assert guard.delivered == 3


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a9_hanging_receiver_costs_three_seconds_at_the_end_and_nothing_before(tmp_path: Path, protocol: str) -> None:
    stream = retried_job()
    with GrpcReceiver("hang") if protocol == "grpc" else OtlpReceiver("hang") as receiver:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        running = start(Home(tmp_path), ON, env)
        began = time.monotonic()
        for _ in range(3000):
            record_leaf(running, stream, "index", 2)
        assert time.monotonic() - began < 8.0  # a single export that was waited for takes 10 s
        began = time.monotonic()
        assert running.shutdown(limit_s=3.0) is False
        assert time.monotonic() - began < 8.0
        assert running.dropped == 3000
    assert len(SpanStore(Home(tmp_path).traces).of_trace(TRACE_ID)) > 2000


@pytest.mark.parametrize("mode", ["refuse", "busy", "down"])
def test_a9_refusing_receiver_drops_and_counts_without_a_word(tmp_path: Path, mode: str) -> None:
    root = logging.getLogger()
    root.addHandler(listener := logging.handlers.BufferingHandler(1000))
    try:
        with OtlpReceiver("busy" if mode == "busy" else "refuse") as receiver:
            url = "http://127.0.0.1:9" if mode == "down" else receiver.url
            running = start(Home(tmp_path), ON, {"OTEL_EXPORTER_OTLP_ENDPOINT": url})
            sent = running.emit_job(retried_job().rows)
            began = time.monotonic()
            running.shutdown(limit_s=3.0)
            assert time.monotonic() - began < 8.0
    finally:
        root.removeHandler(listener)
    said = [record for record in listener.buffer if record.levelno >= logging.WARNING]
    assert running.dropped == sent > 0
    assert said == []


def test_missing_grpc_exporter_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc", None)
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with telemetry(tmp_path, env) as running:
        assert len(running.notes) == 1
        assert "opentelemetry-exporter-otlp-proto-grpc" in running.notes[0]


def test_a17_a_token_without_logfire_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "logfire", None)
    monkeypatch.delitem(sys.modules, "lerim_jobs.tracing.export.hosted", raising=False)
    monkeypatch.delattr(export, "hosted", raising=False)  # another test may have loaded it already
    with telemetry(tmp_path, {"LOGFIRE_TOKEN": "pylf_v1_us_x"}) as running:
        assert len(running.notes) == 1
        assert "lerim-jobs[trace]" in running.notes[0]


LOGFIRE = """
import os, sys, time
from pathlib import Path
from lerim_jobs.config import Settings, Tracing
from lerim_jobs.paths import Home
from lerim_jobs.log.events import JobRequested
from lerim_jobs.tracing.propagation import under_attempt
from lerim_jobs.tracing.export.backends import start
from tests.integration.test_telemetry import retried_job

stream = retried_job()
running = start(Home(Path(sys.argv[1])), Settings(tracing=Tracing(enabled=True)), dict(os.environ))
with under_attempt(stream.rows[0].as_(JobRequested), "index", 2, job_id="sync-1", session_id="s-1"):
    span = running.tracer().start_span("chat m")
    span.set_attribute("lerim.note", "the session's auth flow")
    span.set_attribute("foreign.note", "the password is marker99")
    span.set_attribute("gen_ai.input.messages", "use sk-marker1234567 as the api key")
    span.set_attribute("http.request.header.authorization", "Bearer marker1234567")
    span.end()
sent = running.emit_job(stream.rows)
began = time.monotonic()
running.shutdown(limit_s=3.0)
print(sent, round(time.monotonic() - began, 2))
sys.stdout.flush()
os._exit(0)
"""


def run_logfire(home: Path, env: dict[str, str]) -> tuple[subprocess.CompletedProcess[str], float]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", LOGFIRE, str(home)],
        env={"LOGFIRE_TOKEN": "pylf_v1_us_abc", "HOME": str(home), "PYTHONPATH": ".", **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done, time.monotonic() - began


def test_a10_logfire_and_otlp_both_get_the_whole_trace(tmp_path: Path) -> None:
    with OtlpReceiver() as hosted, OtlpReceiver() as own:
        done, _ = run_logfire(tmp_path, {"LOGFIRE_BASE_URL": hosted.url, "OTEL_EXPORTER_OTLP_ENDPOINT": own.url})
        assert done.stderr == ""
        assert (hosted.health(), own.health()) == (WHOLE, WHOLE)
        assert hosted.posts[0].headers["authorization"] == "pylf_v1_us_abc"
        assert own.resources()[0]["service.name"] == "lerim"
        for receiver in (hosted, own):
            chat = next(span for span in receiver.spans() if span.name == "chat m")
            assert chat.attributes["lerim.note"] == "the session's auth flow"
            assert chat.attributes["gen_ai.conversation.id"] == "s-1"
            assert "marker99" not in chat.attributes["foreign.note"]
            assert not receiver.holds("marker1234567")


def test_a9_hanging_logfire_ends_in_bounded_time_and_silence(tmp_path: Path) -> None:
    with OtlpReceiver("hang") as hosted:
        done, took_s = run_logfire(tmp_path, {"LOGFIRE_BASE_URL": hosted.url})
    assert done.stderr == ""
    assert took_s < 8  # 3 s to stop, the rest is start-up; a flush without a limit takes 10 s more


def test_redis_calls_within_a_job_are_spans_without_their_values(tmp_path: Path) -> None:
    import redis
    from opentelemetry.instrumentation.redis import RedisInstrumentor
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    stream = retried_job()
    running = start(Home(tmp_path), ON, {}, with_redis=True)
    try:
        client = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
        with under_attempt(request_of(stream), "index", 2, job_id="sync-1"), pytest.raises(redis.ConnectionError):
            client.set("marker-key", "marker-value")
        with pytest.raises(redis.ConnectionError):
            client.ping()
    finally:
        RedisInstrumentor().uninstrument()
        running.shutdown()
    (span,) = SpanStore(Home(tmp_path).traces).of_trace(TRACE_ID)
    assert (span.name, span.parent_span_id) == ("SET", attempt_span_id(TRACE_ID, "index", 2))
    assert "marker" not in str(span)


def test_spans_that_could_not_be_stored_for_a_moment_are_stored_with_the_next_ones(tmp_path: Path) -> None:
    place = tmp_path / "away" / "traces.sqlite3"
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(sink := LocalSink(place, delay_s=60.0))
    with provider.get_tracer("t").start_as_current_span("outer") as outer:
        provider.get_tracer("t").start_span("inner").end()
        assert not sink.keep(0.0)
        assert sink.waiting == 1
        place.parent.mkdir()
    assert sink.keep(1.0)
    assert (sink.waiting, sink.dropped) == (0, 0)
    stored = SpanStore(place).of_trace(f"{outer.get_span_context().trace_id:032x}")
    assert sorted(span.name for span in stored) == ["inner", "outer"]
