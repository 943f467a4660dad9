"""HTTP calls of models' clients: whether a request left this machine, spans of it where the job asked for them, no ids of ours.

Own code, because the decision belongs to the job and not to the process, and because the OpenTelemetry instrumentation
of this client records no bodies. Of the headers only the content type is kept: the others hold keys.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from opentelemetry import baggage, trace

from lerim_jobs.tracing import names
from lerim_jobs.tracing.content import mask

__all__ = ["Departure", "departure", "http_hooks"]

_BEGAN = "lerim.began_ns"
_MAX_CHARS = 200_000
_OURS = ("traceparent", "tracestate", "baggage")
"""Headers that some SDKs make of the current context: ids of jobs, projects and sessions are none of a provider's business."""


@dataclass(slots=True)
class Departure:
    """Whether a request began to be sent. Before that nobody can charge for it."""

    left: bool = False

    async def note(self, step: str, about: dict[str, Any]) -> None:
        """What httpcore's `trace` extension tells: connections, proxies' included, come before the request itself."""
        if step.endswith(".send_request_headers.started") and about["request"].method != b"CONNECT":
            self.left = True


_departure: ContextVar[Departure | None] = ContextVar("lerim_departure", default=None)


@contextmanager
def departure() -> Iterator[Departure]:
    """Watch the requests that are made inside."""
    watched = Departure()
    token = _departure.set(watched)
    try:
        yield watched
    finally:
        _departure.reset(token)


def http_hooks() -> dict[str, list[Any]]:
    """`event_hooks` for an httpx client. They cost a baggage look-up in jobs that want no bodies."""
    return {"request": [_on_request], "response": [_on_response]}


async def _on_request(request: Any) -> None:
    for name in _OURS:
        request.headers.pop(name, None)
    request.extensions[_BEGAN] = time.time_ns()
    if watched := _departure.get():
        request.extensions["trace"] = watched.note


async def _on_response(response: Any) -> None:
    if baggage.get_baggage(names.INCLUDE_HTTPX) != "1":
        return
    request = response.request
    body = await response.aread()
    span = trace.get_tracer(names.SCOPE).start_span(
        f"{request.method} {request.url.path}",
        kind=trace.SpanKind.CLIENT,
        start_time=request.extensions.get(_BEGAN),
        attributes={
            "http.request.method": request.method,
            "url.full": mask(str(request.url.copy_with(query=None, userinfo=b""))),
            "http.response.status_code": response.status_code,
            "http.request.header.content-type": request.headers.get("content-type", ""),
            "http.response.header.content-type": response.headers.get("content-type", ""),
            "http.request.body": _text(request.content),
            "http.response.body": _text(body),
        },
    )
    if response.status_code >= 400:
        span.set_status(trace.StatusCode.ERROR, f"HTTP {response.status_code}")
    span.end()


def _text(body: bytes) -> str:
    text = mask(body.decode("utf-8", "replace"))
    return text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}… {len(text) - _MAX_CHARS} characters more"
