"""A loopback OTLP/HTTP receiver that decodes spans; it can also refuse everything or never answer."""

from __future__ import annotations

import gzip
import threading
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import grpc
import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from lerim_jobs.tracing.local.tree import TraceHealth, check
from lerim_jobs.tracing.skeleton.record import SpanRecord

__all__ = ["GrpcReceiver", "OtlpReceiver", "Received"]

Mode = Literal["ok", "refuse", "busy", "hang"]
_CODES = {"ok": 200, "refuse": 400, "busy": 503}
_KINDS = ("internal", "internal", "server", "client", "producer", "consumer")
_STATUS = ("unset", "ok", "error")
_INFLATE: dict[str | None, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}


class Received(msgspec.Struct, frozen=True):
    """One POST."""

    path: str
    headers: dict[str, str]
    body: bytes


class OtlpReceiver:
    """`with OtlpReceiver() as receiver:` then point an exporter at `receiver.url`."""

    def __init__(self, mode: Mode = "ok") -> None:
        self.posts: list[Received] = []
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, mode))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> OtlpReceiver:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def wait_for_release(self) -> None:
        self._released.wait()

    def spans(self) -> list[SpanRecord]:
        """Everything received, repeats included."""
        return [span for post in list(self.posts) if "traces" in post.path for span in _spans(_decoded(post))]

    def resources(self) -> list[dict[str, Any]]:
        requests = [_decoded(post) for post in list(self.posts) if "traces" in post.path]
        return [_attributes(group.resource.attributes) for request in requests for group in request.resource_spans]

    def health(self) -> TraceHealth:
        return check(self.spans())

    def holds(self, marker: str) -> bool:
        """Whether the text was received anywhere, as bytes."""
        return any(marker.encode() in post.body for post in self.posts)


class GrpcReceiver(OtlpReceiver):
    """The same over gRPC."""

    def __init__(self, mode: Mode = "ok") -> None:
        self.posts = []
        self._mode = mode
        self._released = threading.Event()
        self._grpc = grpc.server(ThreadPoolExecutor(4))
        method = grpc.unary_unary_rpc_method_handler(self._export)
        service = "opentelemetry.proto.collector.trace.v1.TraceService"
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Export": method}),))
        self.url = f"http://127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> GrpcReceiver:
        self._grpc.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._grpc.stop(0).wait(5)

    def _export(self, body: bytes, context: Any) -> bytes:
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        self.posts.append(Received("/v1/traces", headers, body))
        if self._mode == "hang":
            self.wait_for_release()
        answer: bytes = ExportTraceServiceResponse().SerializeToString()
        return answer


def _handler(receiver: OtlpReceiver, mode: Mode) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            inflate = _INFLATE.get(self.headers.get("content-encoding"), bytes)
            receiver.posts.append(Received(self.path, {k.lower(): v for k, v in self.headers.items()}, inflate(body)))
            if mode == "hang":
                receiver.wait_for_release()
                self.close_connection = True
                return
            self.send_response(_CODES[mode])
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    return Handler


def _decoded(post: Received) -> Any:
    request = ExportTraceServiceRequest()
    request.ParseFromString(post.body)
    return request


def _spans(request: Any) -> list[SpanRecord]:
    return [_record(span) for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]


def _record(span: Any) -> SpanRecord:
    return msgspec.convert(
        {
            "trace_id": span.trace_id.hex(),
            "span_id": span.span_id.hex(),
            "parent_span_id": span.parent_span_id.hex() or None,
            "name": span.name,
            "kind": _KINDS[span.kind],
            "start_ns": span.start_time_unix_nano,
            "end_ns": span.end_time_unix_nano,
            "status": _STATUS[span.status.code],
            "status_text": span.status.message,
            "attributes": _attributes(span.attributes),
            "events": [
                {"name": event.name, "at_ns": event.time_unix_nano, "attributes": _attributes(event.attributes)}
                for event in span.events
            ],
            "links": [
                {
                    "trace_id": link.trace_id.hex(),
                    "span_id": link.span_id.hex(),
                    "attributes": _attributes(link.attributes),
                }
                for link in span.links
            ],
        },
        SpanRecord,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None
