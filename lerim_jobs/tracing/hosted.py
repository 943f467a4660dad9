"""Logfire, configured so that it stays quiet, scrubs secrets but not sessions, and keeps our ids and sampling."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import logfire
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.trace import TracerProvider

from lerim_jobs.tracing.content import is_secret_key, mask
from lerim_jobs.tracing.preset import PresetIdGenerator, sampler

__all__ = ["configure", "keep_ours", "stop"]

_SECRETS = (r"\bbearer\s", r"\b(?:sk|pk|rk)-[a-z0-9_-]{8,}", r"\bgh[oprsu]_[a-z0-9]{20,}", r"\bA[KS]IA[A-Z0-9]{16}\b")
_OURS = ("lerim.", "gen_ai.", "pydantic_ai.", "exception.", "otel.", "logfire.", "agent_", "model_", "error.type")
_OUR_KEYS = {"final_result", "all_messages_events", "operation.cost", "name", "session_id"}


def configure(token: str, processors: Sequence[SpanProcessor]) -> TracerProvider:
    """Point Logfire at its backend and hang our processors into its provider. OTLP is ours: Logfire ignores grpc."""
    config = logfire.DEFAULT_LOGFIRE_INSTANCE.config
    # The check of the token runs in a thread that prints warnings and tracebacks; the exporter reports the same problem.
    config._initialize_credentials_from_token = lambda _token: None  # type: ignore[method-assign]
    warnings.filterwarnings("ignore", module=r"logfire")
    logfire.configure(
        send_to_logfire="if-token-present",
        token=token,
        console=False,
        metrics=False,
        distributed_tracing=True,
        inspect_arguments=False,
        add_baggage_to_attributes=False,
        additional_span_processors=list(processors),
        sampling=logfire.SamplingOptions(head=sampler()),
        scrubbing=logfire.ScrubbingOptions(callback=keep_ours, extra_patterns=_SECRETS),
        advanced=logfire.AdvancedOptions(id_generator=PresetIdGenerator()),
    )
    return config.get_tracer_provider()


def keep_ours(match: logfire.ScrubMatch) -> Any:
    """What becomes of a value Logfire would scrub: None scrubs it.

    Its patterns include `session` and `auth`, core nouns here, and replace whole values. So values under known keys stay,
    with keys and tokens masked, and everything else is scrubbed as usual.
    """
    key = next((part for part in match.path if isinstance(part, str) and part not in ("attributes", "otel_events")), "")
    if any(isinstance(part, str) and is_secret_key(part) for part in match.path):
        return None
    if not (key.startswith(_OURS) or key in _OUR_KEYS):
        return None
    return mask(match.value) if isinstance(match.value, str) else match.value


def stop() -> bool:
    """Blocks as long as the exporter does; bound it from outside."""
    return logfire.shutdown(flush=True)
