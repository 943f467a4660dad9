"""Logfire, configured so that it stays quiet, scrubs secrets but not sessions, and keeps our ids and sampling."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

import logfire
from logfire._internal.config import original_os_exit
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import TracerProvider

from lerim_jobs.tracing.content import is_secret_key, mask
from lerim_jobs.tracing.export.exporter import without_secrets
from lerim_jobs.tracing.export.preset import PresetIdGenerator, sampler

__all__ = ["configure", "keep_ours", "stop"]

_PARTS = ("attributes", "otel_events", "links")
_OURS = ("lerim.", "gen_ai.", "pydantic_ai.", "exception.", "otel.", "logfire.", "agent_", "model_", "error.type")
_OUR_KEYS = {"final_result", "all_messages_events", "operation.cost", "session_id"}


def configure(token: str, processors: Sequence[SpanProcessor]) -> TracerProvider:
    """Point Logfire at its backend and hang our processors into its provider."""
    config = logfire.DEFAULT_LOGFIRE_INSTANCE.config
    # The token's check runs in a thread that prints warnings and tracebacks; the exporter meets the same refusal.
    config._initialize_credentials_from_token = lambda token: None  # type: ignore[method-assign]
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
        scrubbing=logfire.ScrubbingOptions(callback=keep_ours),
        advanced=logfire.AdvancedOptions(id_generator=PresetIdGenerator()),
    )
    # Its patch flushes without a time limit; stopping is bounded by `Telemetry.shutdown`, and then exit means exit.
    os._exit = original_os_exit
    _mask_everything(config.scrubber)
    return config.get_tracer_provider()


def keep_ours(match: logfire.ScrubMatch) -> Any:
    """What becomes of a value Logfire would scrub: None scrubs it.

    Its patterns include `session` and `auth`, core nouns here, and replace whole values. So values under known keys
    stay, with keys and tokens masked, and everything else is scrubbed as usual.
    """
    path = [part for part in match.path if isinstance(part, str) and part not in _PARTS]
    if not path or any(is_secret_key(part) for part in path):
        return None
    if not (path[0].startswith(_OURS) or path[0] in _OUR_KEYS):
        return None
    return mask(match.value) if isinstance(match.value, str) else match.value


def stop() -> bool:
    """Blocks as long as the exporter does; bound it from outside."""
    return logfire.shutdown(flush=False)  # a processor that stops exports the rest; a flush before could block longer


def _mask_everything(scrubber: Any) -> None:
    """Also mask what Logfire never looks at: it lets prompts, URLs and exception messages pass as safe."""
    scrub = scrubber.scrub_span

    def scrub_and_mask(span: dict[str, Any]) -> None:
        scrub(span)
        clean = without_secrets(ReadableSpan(**span))
        span |= {
            "name": clean.name,
            "attributes": clean.attributes,
            "events": list(clean.events),
            "links": list(clean.links),
            "status": clean.status,
        }

    scrubber.scrub_span = scrub_and_mask
