"""Tracer providers and their sinks, made from the environment: the local store, OTLP, Logfire."""

from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from lerim_jobs.paths import Home
from lerim_jobs.tracing.context import sdk_disabled
from lerim_jobs.tracing.exporter import Guard, LocalExporter, Outbox
from lerim_jobs.tracing.preset import PresetIdGenerator, sampler
from lerim_jobs.tracing.telemetry import Telemetry

__all__ = ["BaggageAttributes", "Sink", "build", "instrument_redis"]

# A killed worker loses about as much as it records within the delay.
_LOCAL_DELAY_MS = 200
_REMOTE_DELAY_MS = 1000
# A big job's skeleton is emitted in one go; the SDK's default of 2048 would drop part of it.
_QUEUE_SIZE = 8192
_TRIES, _AGAIN_S = 5, 0.1
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
# Logfire would add a second OTLP exporter of its own, and one that ignores grpc.
_NO_EXPORTERS = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
_SDK_PREFIXES = ("OTEL_", "LOGFIRE_")


class Sink(SpanProcessor):
    """A batch processor that knows how many spans it was given and how many its receiver took."""

    def __init__(self, exporter: SpanExporter, *, delay_ms: int, outbox: Outbox | None = None, remote: bool) -> None:
        self.remote = remote
        # A receiver's exporter tries again by itself; the local store may have met a disk that was full for a moment.
        self._guard = Guard(exporter, outbox=outbox, keeps=0 if remote else _QUEUE_SIZE)
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
        done = self._batch.force_flush()
        self._guard.again()
        return done

    def keep(self) -> None:
        """Deliver what is waiting, and try again for a moment where that fails."""
        for _ in range(_TRIES):
            self.flush()
            if not self._guard.is_behind:
                return
            time.sleep(_AGAIN_S)

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


class BaggageAttributes(SpanProcessor):
    """Puts the job's baggage on every span, over whatever the span says itself.

    A library's own `gen_ai.conversation.id` names one agent run; ours names the coding session.
    """

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for key, value in baggage.get_all(parent_context).items():
            if key.startswith("lerim."):
                span.set_attribute(key, value if isinstance(value, str | int | float) else str(value))


def build(home: Home, env: Mapping[str, str], *, local: bool = True) -> Telemetry:
    """Processors first, then whoever brings the provider: Logfire when there is a token, else the bare SDK.

    `local` feeds the local span store as well.
    """
    if sdk_disabled(env):
        return Telemetry(trace.NoOpTracerProvider(), [], home=home, disabled=True)
    notes: list[str] = []
    with _environment(env):
        sinks = [Sink(LocalExporter(home.traces), delay_ms=_LOCAL_DELAY_MS, remote=False)] if local else []
        if exporter := _otlp(env, notes):
            outbox = Outbox(home.traces) if local else None
            sinks.append(Sink(exporter, delay_ms=_delay_ms(env), outbox=outbox, remote=True))
        token = env.get("LOGFIRE_TOKEN", "").strip()
        if token and (hosted := _hosted(notes)):
            os.environ.update(_NO_EXPORTERS)
            provider = hosted.configure(token, [BaggageAttributes(), *sinks])
            return Telemetry(provider, sinks, home=home, notes=notes, also_stop=hosted.stop)
        return Telemetry(_bare([BaggageAttributes(), *sinks]), sinks, home=home, notes=notes)


def instrument_redis(provider: trace.TracerProvider) -> None:
    """Spans for Redis calls made within a job. Never with statements: they hold message payloads."""
    try:
        from opentelemetry.instrumentation.redis import RedisInstrumentor
    except ImportError:
        return

    RedisInstrumentor().instrument(tracer_provider=provider)


def _bare(processors: list[SpanProcessor]) -> TracerProvider:
    # Not stopped at exit: that would wait up to 30 s for a receiver that hangs.
    provider = TracerProvider(sampler=sampler(), id_generator=PresetIdGenerator(), shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        trace.set_tracer_provider(provider)
    return provider


def _hosted(notes: list[str]) -> Any:
    """The module for Logfire, None with a note where the package is missing or broken."""
    try:
        from lerim_jobs.tracing import hosted
    except ImportError:
        notes.append(
            "LOGFIRE_TOKEN is set but logfire is not installed: `pip install 'lerim-jobs[trace]'`, or unset the token."
        )
        return None
    return hosted


def _otlp(env: Mapping[str, str], notes: list[str]) -> SpanExporter | None:
    """The OTLP exporter the environment asks for; the exporter reads its own variables."""
    wanted = env.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if wanted not in ("", "otlp") or not (env.get(_ENDPOINT) or env.get(_TRACES_ENDPOINT)):
        return None
    protocol = env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or env.get("OTEL_EXPORTER_OTLP_PROTOCOL") or ""
    if protocol.strip().lower() == "grpc":
        return _grpc(notes)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()


def _grpc(notes: list[str]) -> SpanExporter | None:
    try:
        from opentelemetry.exporter.otlp.proto.grpc import trace_exporter
    except ImportError:
        notes.append(
            "OTEL_EXPORTER_OTLP_PROTOCOL is grpc but its exporter is not installed: "
            "`pip install opentelemetry-exporter-otlp-proto-grpc`, or use http/protobuf."
        )
        return None
    exporter: SpanExporter = trace_exporter.OTLPSpanExporter()
    return exporter


def _delay_ms(env: Mapping[str, str]) -> int:
    given = env.get("OTEL_BSP_SCHEDULE_DELAY", "").strip()
    return int(given) if given.isascii() and given.isdigit() and int(given) > 0 else _REMOTE_DELAY_MS


@contextmanager
def _environment(env: Mapping[str, str]) -> Iterator[None]:
    """Let the SDKs read `env`: they know no other source than the process's own variables."""
    before = {key: value for key, value in os.environ.items() if key.startswith(_SDK_PREFIXES)}
    given = {key: value for key, value in env.items() if key.startswith(_SDK_PREFIXES)}
    if "service.name=" not in given.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        given.setdefault("OTEL_SERVICE_NAME", "lerim")
    _replace(given)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        _replace(before)


def _replace(variables: Mapping[str, Any]) -> None:
    for key in [key for key in os.environ if key.startswith(_SDK_PREFIXES)]:
        del os.environ[key]
    os.environ.update(variables)
