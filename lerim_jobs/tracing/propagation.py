"""Carrying a trace: decide it once when the job is requested, then stand under it wherever the job is worked on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from lerim_jobs import clock, ids
from lerim_jobs.config import Settings
from lerim_jobs.log.events import JobRequested
from lerim_jobs.tracing import names
from lerim_jobs.tracing.skeleton.spans import attempt_span_id

__all__ = ["JobTrace", "reserve", "sdk_disabled", "trace_of", "under_attempt"]

_LOW_64_BITS = (1 << 64) - 1


class JobTrace(msgspec.Struct, frozen=True):
    """What `JobRequested` says about the job's trace."""

    trace_id: str
    root_span_id: str
    start_ns: int
    sampled: bool
    include_content: bool
    include_httpx: bool


def trace_of(request: JobRequested) -> JobTrace:
    """The trace that was reserved for a job."""
    return JobTrace(
        trace_id=request.trace_id,
        root_span_id=request.root_span_id,
        start_ns=request.start_ns,
        sampled=request.sampled,
        include_content=request.include_content,
        include_httpx=request.include_httpx,
    )


def reserve(settings: Settings, env: Mapping[str, str], now_ns: int | None = None) -> JobTrace:
    """Fix ids, start and the sampling decision of a new job. Bodies of HTTP calls are content, so content wins."""
    tracing = settings.tracing
    trace_id = ids.trace_id()
    return JobTrace(
        trace_id=trace_id,
        root_span_id=ids.span_id(trace_id, "root"),
        start_ns=clock.now_ns() if now_ns is None else now_ns,
        sampled=tracing.enabled and not sdk_disabled(env) and _sampled(trace_id, env),
        include_content=tracing.include_content,
        include_httpx=tracing.include_httpx and tracing.include_content,
    )


def sdk_disabled(env: Mapping[str, str]) -> bool:
    """`OTEL_SDK_DISABLED`, read as the SDK reads it."""
    return env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


@contextmanager
def under_attempt(
    request: JobRequested,
    stage: str,
    attempt: int,
    *,
    job_id: str,
    role: str | None = None,
    project: str | None = None,
    session_id: str | None = None,
) -> Iterator[None]:
    """Make the attempt's span the parent of every span started inside, and name the job on each by baggage.

    The attempt's own span is not started here: it is part of the skeleton, whose ids everybody knows.
    """
    from opentelemetry import baggage, context, trace

    parent = trace.SpanContext(
        trace_id=int(request.trace_id, 16),
        span_id=int(attempt_span_id(request.trace_id, stage, attempt), 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(request.sampled)),
    )
    around = trace.set_span_in_context(trace.NonRecordingSpan(parent), context.Context())
    about = {
        names.JOB_ID: job_id,
        names.JOB_KIND: request.kind,
        names.STAGE: stage,
        names.ATTEMPT: attempt,
        names.ROLE: role,
        names.PROJECT: project,
        names.SESSION: session_id,
        names.INCLUDE_HTTPX: "1" if request.include_httpx and request.include_content else None,
    }
    for key, value in about.items():
        if value is not None:
            around = baggage.set_baggage(key, value, around)
    token = context.attach(around)
    try:
        yield
    finally:
        context.detach(token)


def _sampled(trace_id: str, env: Mapping[str, str]) -> bool:
    """The SDK's root decision. A ratio given without a sampler counts as well, because Logfire reads it that way."""
    sampler = env.get("OTEL_TRACES_SAMPLER", "").strip().lower().removeprefix("parentbased_")
    if sampler in ("always_on", "always_off"):
        return sampler == "always_on"
    return int(trace_id, 16) & _LOW_64_BITS < round(_ratio(env) * (_LOW_64_BITS + 1))


def _ratio(env: Mapping[str, str]) -> float:
    """`OTEL_TRACES_SAMPLER_ARG`; anything that is no probability counts as 1, as in the SDK."""
    try:
        ratio = float(env.get("OTEL_TRACES_SAMPLER_ARG", "").strip() or 1.0)
    except ValueError:
        return 1.0
    return ratio if 0.0 <= ratio <= 1.0 else 1.0
