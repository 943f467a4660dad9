"""A span as a value: what the log implies, what the local store keeps and what an exporter is given."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = ["SpanEvent", "SpanKind", "SpanLink", "SpanRecord", "SpanStatus", "to_json"]

SpanKind = Literal["internal", "server", "client", "producer", "consumer"]
SpanStatus = Literal["unset", "ok", "error"]


class SpanEvent(msgspec.Struct, frozen=True):
    """Something that happened at one moment within a span."""

    name: str
    at_ns: int
    attributes: dict[str, Any] = {}


class SpanLink(msgspec.Struct, frozen=True):
    """A causal predecessor that is not the parent."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any] = {}


class SpanRecord(msgspec.Struct, frozen=True):
    """One span. Ids are lower-case hex, times nanoseconds since the epoch; `end_ns` None: still running."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: SpanKind
    start_ns: int
    end_ns: int | None
    status: SpanStatus = "unset"
    status_text: str = ""
    attributes: dict[str, Any] = {}
    events: list[SpanEvent] = []
    links: list[SpanLink] = []


def to_json(span: SpanRecord) -> dict[str, Any]:
    """The span as `lerim trace show --json` prints it. The status text travels as `otel.status_description`."""
    text = {"otel.status_description": span.status_text} if span.status_text else {}
    return {
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
        "name": span.name,
        "kind": span.kind,
        "start_ns": span.start_ns,
        "end_ns": span.end_ns,
        "status": span.status,
        "attributes": {**span.attributes, **text},
        "events": [msgspec.to_builtins(event) for event in span.events],
        "links": [msgspec.to_builtins(link) for link in span.links],
    }
