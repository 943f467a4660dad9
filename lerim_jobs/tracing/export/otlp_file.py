"""A trace as an OTLP file: protobuf, or OTLP/JSON when the name ends in `.json`. Either can be posted to any collector."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lerim_jobs.errors import BadInput
from lerim_jobs.machine import whole_file
from lerim_jobs.tracing.names import SCOPE
from lerim_jobs.tracing.skeleton.record import SpanRecord

__all__ = ["write"]

_HEX_IDS = ("traceId", "spanId", "parentSpanId")


def write(spans: Iterable[SpanRecord], path: Path) -> int:
    """Write the finished spans as one ExportTraceServiceRequest and return how many. Raises BadInput."""
    from google.protobuf.json_format import MessageToDict
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from lerim_jobs.tracing.export.emission import emit
    from lerim_jobs.tracing.export.preset import PresetIdGenerator

    memory, provider = InMemorySpanExporter(), TracerProvider(id_generator=PresetIdGenerator(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    count = emit(provider.get_tracer(SCOPE), spans)
    request: Any = encode_spans(memory.get_finished_spans())
    as_json = path.suffix == ".json"
    data = json.dumps(_hex(MessageToDict(request))).encode() if as_json else request.SerializeToString()
    try:
        whole_file.put(path, data)
    except OSError as exc:
        raise BadInput(f"cannot write {str(path)!r}: {exc.strerror}") from None
    return count


def _hex(value: Any) -> Any:
    """OTLP/JSON writes ids as hex where protobuf's JSON writes base64."""
    if isinstance(value, dict):
        return {key: base64.b64decode(part).hex() if key in _HEX_IDS else _hex(part) for key, part in value.items()}
    return [_hex(part) for part in value] if isinstance(value, list) else value
