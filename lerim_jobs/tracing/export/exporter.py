"""A guard around every OpenTelemetry exporter, and spans as our own values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link

from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.tracing import names
from lerim_jobs.tracing.content import REDACTED, is_secret_key, mask
from lerim_jobs.tracing.local.store import SpanStore
from lerim_jobs.tracing.skeleton.record import SpanEvent, SpanKind, SpanLink, SpanRecord, SpanStatus

__all__ = ["Guard", "Outbox", "is_noise", "record_of", "without_secrets"]

_NOISY_SCOPE = "opentelemetry.instrumentation.redis"


class Outbox:
    """Notes in the local store what a receiver took, so that a killed worker's spans can be sent by another one.

    And never twice: who closes a trace again, because the first to do so was killed, leaves out what arrived.
    """

    def __init__(self, path: Path) -> None:
        self._store = SpanStore(path)

    def delivered(self, spans: Sequence[ReadableSpan]) -> None:
        """Remember that the receiver has them."""
        with suppress(StoreUnavailable):
            self._store.mark_sent(_ids(span) for span in spans)

    def fresh(self, spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
        """Those the receiver does not have, as far as is known."""
        try:
            known = self._store.sent_of(_ids(span) for span in spans)
        except StoreUnavailable:
            return list(spans)
        return [span for span in spans if _ids(span) not in known]


class Guard(SpanExporter):
    """Around an exporter: no secret leaves, no polling noise, and what was delivered is counted.

    Redis spans without a parent are polling outside any job. A sampler cannot tell them apart early enough and the
    instrumentation has no switch for it (open-telemetry/opentelemetry-python-contrib#1164).
    """

    def __init__(self, inner: SpanExporter, *, outbox: Outbox | None = None) -> None:
        self._inner, self._outbox = inner, outbox
        self.delivered = 0
        """Spans the inner exporter took, those dropped on purpose included."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        batch = [without_secrets(span) for span in spans if not is_noise(span)]
        if self._outbox:
            batch = self._outbox.fresh(batch)
        result = self._inner.export(batch) if batch else SpanExportResult.SUCCESS
        if result is SpanExportResult.SUCCESS:
            self.delivered += len(spans)
            if self._outbox and batch:
                self._outbox.delivered(batch)
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def without_secrets(span: ReadableSpan) -> ReadableSpan:
    """The span with keys and tokens masked in its name, status, attributes, events and links."""
    status = span.status
    if status.description and mask(status.description) != status.description:
        status = type(status)(status.status_code, mask(status.description))
    return ReadableSpan(
        name=mask(span.name),
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=_as_billed(_in_our_session(_masked(span.attributes))),
        events=[Event(mask(event.name), _masked(event.attributes), event.timestamp) for event in span.events],
        links=[Link(link.context, _masked(link.attributes)) for link in span.links],
        kind=span.kind,
        status=status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _in_our_session(attributes: dict[str, Any]) -> dict[str, Any]:
    """The conversation is the coding session; libraries write their own run's id there, some only at the span's end."""
    if session := attributes.get(names.SESSION):
        attributes[names.CONVERSATION_ID] = session
    return attributes


def _as_billed(attributes: dict[str, Any]) -> dict[str, Any]:
    """A model call says what the log says: the user's prices count, and answers that a fallback replaced.

    Libraries set their own numbers when the span ends, so ours are put in their place here.
    """
    if names.CALL_COST not in attributes:
        return attributes
    cost = attributes[names.CALL_COST]
    attributes.pop(names.COST, None)
    if not isinstance(cost, str):
        attributes[names.COST] = cost
    for ours, theirs in ((names.CALL_TOKENS_IN, names.USAGE_IN), (names.CALL_TOKENS_OUT, names.USAGE_OUT)):
        if ours in attributes:
            attributes[theirs] = attributes.pop(ours)
    return attributes


def record_of(span: ReadableSpan) -> SpanRecord:
    """The SDK's span as a value."""
    context = span.context
    assert context is not None, "the SDK always gives an ended span a context"
    return SpanRecord(
        trace_id=f"{context.trace_id:032x}",
        span_id=f"{context.span_id:016x}",
        parent_span_id=f"{span.parent.span_id:016x}" if span.parent else None,
        name=span.name,
        kind=cast(SpanKind, span.kind.name.lower()),
        start_ns=span.start_time or 0,
        end_ns=span.end_time,
        status=cast(SpanStatus, span.status.status_code.name.lower()),
        status_text=span.status.description or "",
        attributes=_plain(span.attributes),
        events=[SpanEvent(event.name, event.timestamp, _plain(event.attributes)) for event in span.events],
        links=[
            SpanLink(f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}", _plain(link.attributes))
            for link in span.links
        ],
    )


def _ids(span: ReadableSpan) -> tuple[str, str]:
    context = span.context
    return (f"{context.trace_id:032x}", f"{context.span_id:016x}") if context else ("", "")


def is_noise(span: ReadableSpan) -> bool:
    """Whether it is polling outside any job."""
    scope = span.instrumentation_scope
    return span.parent is None and scope is not None and scope.name == _NOISY_SCOPE


def _masked(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: _masked_value(key, value) for key, value in (attributes or {}).items()}


def _masked_value(key: str, value: Any) -> Any:
    if is_secret_key(key):
        return REDACTED
    if isinstance(value, str):
        return mask(value)
    return tuple(_each(value, mask)) if isinstance(value, list | tuple) else value


def _each(values: Sequence[Any], change: Callable[[str], str]) -> list[Any]:
    return [change(value) if isinstance(value, str) else value for value in values]


def _plain(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """JSON-native: tuples become lists, bytes text."""
    plain: dict[str, Any] = {}
    for key, value in (attributes or {}).items():
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        plain[key] = list(value) if isinstance(value, list | tuple) else value
    return plain
