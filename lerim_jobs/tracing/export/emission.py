"""Sending span records through a tracer, with the ids and times they already have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lerim_jobs.tracing.skeleton.record import SpanRecord

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Tracer

__all__ = ["emit"]


def emit(tracer: Tracer, spans: Iterable[SpanRecord]) -> int:
    """Send every finished record and return how many; one that still runs is left for later.

    Emit once only: a backend stores a repeated id twice or replaces it, as it likes.
    """
    sent = 0
    for span in spans:
        if span.end_ns is not None:
            _emit(tracer, span, span.end_ns)
            sent += 1
    return sent


def _emit(tracer: Tracer, record: SpanRecord, end_ns: int) -> None:
    from opentelemetry.trace import SpanKind, Status, StatusCode

    from lerim_jobs.tracing.export.preset import preset

    with preset(record.trace_id, record.span_id):
        span = tracer.start_span(
            record.name,
            context=_parent(record),
            kind=SpanKind[record.kind.upper()],
            attributes=record.attributes,
            links=_links(record),
            start_time=record.start_ns,
        )
    for event in record.events:
        span.add_event(event.name, event.attributes, event.at_ns)
    if record.status != "unset":
        text = record.status_text if record.status == "error" else None
        span.set_status(Status(StatusCode[record.status.upper()], text or None))
    span.end(end_ns)


def _parent(record: SpanRecord) -> Context:
    """A context of its own: the caller's span and baggage have nothing to do with the record."""
    from opentelemetry.context import Context
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

    if record.parent_span_id is None:
        return Context()
    parent = SpanContext(int(record.trace_id, 16), int(record.parent_span_id, 16), True, TraceFlags(1))
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _links(record: SpanRecord) -> list[Link]:
    from opentelemetry.trace import Link, SpanContext, TraceFlags

    return [
        Link(SpanContext(int(link.trace_id, 16), int(link.span_id, 16), True, TraceFlags(1)), link.attributes)
        for link in record.links
    ]
