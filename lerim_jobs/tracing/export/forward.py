"""Sending a finished trace from the local span store to a backend that only the caller's environment names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lerim_jobs.paths import Home
from lerim_jobs.tracing.propagation import sdk_disabled
from lerim_jobs.tracing.skeleton.record import SpanRecord

__all__ = ["destinations", "forward"]

_PREFIXES = ("OTEL_", "LOGFIRE_")


def destinations(env: Mapping[str, str]) -> list[str]:
    """The backends an environment names, as `otlp URL` and `logfire`; a token itself is not part of it."""
    if sdk_disabled(env):
        return []
    found = []
    endpoint = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or env.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if endpoint and env.get("OTEL_TRACES_EXPORTER", "").strip().lower() in ("", "otlp"):
        found.append(f"otlp {_without_user(endpoint.strip())}")
    if env.get("LOGFIRE_TOKEN", "").strip():
        found.append("logfire")
    return found


def forward(
    home: Home, env: Mapping[str, str], spans: Iterable[SpanRecord], *, known: Sequence[str], limit_s: float = 3.0
) -> tuple[int, int]:
    """Send the spans to every backend of `env` that is not among `known`. Returns how many were sent and how many got lost."""
    from lerim_jobs.tracing.export.backends import build
    from lerim_jobs.tracing.export.emission import emit

    missing = set(destinations(env)) - set(known)
    if not missing:
        return 0, 0
    chosen = {key: value for key, value in env.items() if key.startswith(_PREFIXES)}
    if "logfire" not in missing:
        chosen.pop("LOGFIRE_TOKEN", None)
    if missing == {"logfire"}:
        chosen = {key: value for key, value in chosen.items() if "EXPORTER_OTLP" not in key}
    # The job was sampled when it was asked for; asking again would lose some.
    for variable in ("OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"):
        chosen.pop(variable, None)
    telemetry = build(home, chosen, local=False)
    sent = emit(telemetry.tracer(), spans)
    telemetry.shutdown(limit_s)
    return sent, telemetry.dropped


def _without_user(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
