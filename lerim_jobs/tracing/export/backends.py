"""Tracer providers and their sinks, made from the environment: the local store, OTLP, Logfire."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter

from lerim_jobs.config import Settings
from lerim_jobs.errors import ConfigError
from lerim_jobs.paths import Home
from lerim_jobs.tracing.export.exporter import Outbox
from lerim_jobs.tracing.export.local_sink import LocalSink
from lerim_jobs.tracing.export.preset import PresetIdGenerator, sampler
from lerim_jobs.tracing.export.sink import Sink
from lerim_jobs.tracing.export.telemetry import Telemetry
from lerim_jobs.tracing.propagation import sdk_disabled

__all__ = ["BaggageAttributes", "build", "instrument_redis", "start"]

# A killed worker loses about as much as it records within the delay.
_LOCAL_DELAY_S = 0.2
_REMOTE_DELAY_MS = 1000
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
# Logfire would add a second OTLP exporter of its own, and one that ignores grpc.
_NO_EXPORTERS = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
_SDK_PREFIXES = ("OTEL_", "LOGFIRE_")


class BaggageAttributes(SpanProcessor):
    """Puts the job's baggage on every span, over whatever the span says itself.

    A library's own `gen_ai.conversation.id` names one agent run; ours names the coding session.
    """

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for key, value in baggage.get_all(parent_context).items():
            if key.startswith("lerim."):
                span.set_attribute(key, value if isinstance(value, str | int | float) else str(value))


def start(home: Home, settings: Settings, env: Mapping[str, str], *, with_redis: bool = False) -> Telemetry:
    """Set up this process: always the local span store, plus OTLP and Logfire where `env` names them.

    `env` stands for the whole environment; the SDKs read `OTEL_*` and `LOGFIRE_*` from it and from nothing else.
    Content and sampling are decided by each job, so `settings` only says whether Redis calls are worth a span.
    """
    _silence()
    telemetry = build(home, env)
    if with_redis and settings.tracing.enabled:
        instrument_redis(telemetry.provider)
    return telemetry


def _silence() -> None:
    """Exporters log every failed batch; with tracing on, stderr must read as with tracing off."""
    for name in ("opentelemetry", "logfire"):
        log = logging.getLogger(name)
        log.propagate = False
        if not log.handlers:
            log.addHandler(logging.NullHandler())


def build(home: Home, env: Mapping[str, str], *, local: bool = True) -> Telemetry:
    """Processors first, then whoever brings the provider: Logfire when there is a token, else the bare SDK.

    `local` feeds the local span store as well. Raises ConfigError for what the SDKs cannot read in `env`.
    """
    if sdk_disabled(env):
        return Telemetry(trace.NoOpTracerProvider(), home=home, disabled=True)
    notes: list[str] = []
    try:
        return _built(home, env, notes, local=local)
    except ValueError as exc:
        raise ConfigError(f"tracing: the environment has a value that cannot be used: {exc}") from exc


def _built(home: Home, env: Mapping[str, str], notes: list[str], *, local: bool) -> Telemetry:
    with _environment(env):
        kept = LocalSink(home.traces, delay_s=_LOCAL_DELAY_S) if local else None
        outbox = Outbox(home.traces) if local else None
        exporter = _otlp(env, notes)
        remote = [Sink(exporter, delay_ms=_delay_ms(env), outbox=outbox)] if exporter else []
        sinks = [*([kept] if kept else []), *remote]
        token = env.get("LOGFIRE_TOKEN", "").strip()
        if token and (hosted := _hosted(notes)):
            os.environ.update(_NO_EXPORTERS)
            provider = hosted.configure(token, [BaggageAttributes(), *sinks])
            return Telemetry(provider, home=home, local=kept, remote=remote, notes=notes, also_stop=hosted.stop)
        return Telemetry(_bare([BaggageAttributes(), *sinks]), home=home, local=kept, remote=remote, notes=notes)


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
        from lerim_jobs.tracing.export import hosted
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
