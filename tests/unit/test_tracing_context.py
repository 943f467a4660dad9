"""Traces are decided once, without OpenTelemetry, by the rule its SDK would use."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lerim_jobs.config import Settings, Tracing
from lerim_jobs.log.events import JobRequested
from lerim_jobs.tracing.propagation import reserve, trace_of, under_attempt
from lerim_jobs.tracing.skeleton.spans import attempt_span_id
from tests.job_streams import TRACE_ID, JobStream

ON = Settings(tracing=Tracing(enabled=True))


def sampled(env: dict[str, str], settings: Settings = ON) -> bool:
    return reserve(settings, env).sampled


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, True),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on", "OTEL_TRACES_SAMPLER_ARG": "0"}, True),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, False),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "many"}, True),
        ({"OTEL_TRACES_SAMPLER_ARG": "0"}, False),
        ({"OTEL_TRACES_SAMPLER_ARG": "7"}, True),
        ({"OTEL_SDK_DISABLED": "TRUE"}, False),
    ],
)
def test_a11_environment_decides_sampling(env: dict[str, str], expected: bool) -> None:
    assert sampled(env) is expected


def test_tracing_is_off_unless_enabled() -> None:
    assert sampled({"OTEL_TRACES_SAMPLER": "always_on"}, Settings()) is False


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio", ""])
def test_a_tenth_of_all_jobs_is_sampled_and_the_sdk_agrees(sampler: str) -> None:
    from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

    env = {"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": "0.1"}
    traces = [reserve(ON, env) for _ in range(400)]
    bound = TraceIdRatioBased.get_bound_for_rate(0.1)
    assert 15 <= sum(trace.sampled for trace in traces) <= 75
    assert all(trace.sampled == (int(trace.trace_id, 16) & (2**64 - 1) < bound) for trace in traces)


def test_a5_content_off_wins_over_http_bodies() -> None:
    both = Settings(tracing=Tracing(enabled=True, include_httpx=True, include_content=False))
    assert reserve(both, {}).include_httpx is False
    assert reserve(Settings(tracing=Tracing(enabled=True, include_httpx=True)), {}).include_httpx is True


def test_trace_of_a_request_is_what_was_reserved() -> None:
    request = JobStream().rows[0].as_(JobRequested)
    assert trace_of(request).trace_id == TRACE_ID


def test_reserving_loads_no_opentelemetry() -> None:
    code = (
        "import sys; from lerim_jobs.tracing.propagation import reserve; from lerim_jobs.config import Settings\n"
        "import lerim_jobs.tracing.local.render, lerim_jobs.tracing.local.store, lerim_jobs.tracing.export.telemetry\n"
        "reserve(Settings(), {}); sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("is_sampled", [True, False])
def test_under_attempt_is_the_attempts_span_with_the_job_in_baggage(is_sampled: bool) -> None:
    from opentelemetry import baggage, trace

    request = JobStream(sampled=is_sampled).rows[0].as_(JobRequested)
    before = trace.get_current_span().get_span_context()
    with under_attempt(request, "index", 2, job_id="sync-1", role="lead", session_id="s-1"):
        parent = trace.get_current_span().get_span_context()
        bag = baggage.get_all()
    assert f"{parent.trace_id:032x}" == TRACE_ID
    assert f"{parent.span_id:016x}" == attempt_span_id(TRACE_ID, "index", 2)
    assert parent.trace_flags.sampled is is_sampled
    assert bag == {
        "lerim.job_id": "sync-1",
        "lerim.job_kind": "sync",
        "lerim.stage": "index",
        "lerim.attempt": 2,
        "lerim.role": "lead",
        "lerim.session_id": "s-1",
    }
    assert trace.get_current_span().get_span_context() == before
