"""What leaves for a model's address says nothing of jobs, projects and sessions."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from workers.models.wire import http_hooks


@pytest.mark.parametrize("name", ["traceparent", "tracestate", "baggage", "Baggage", "TRACEPARENT"])
def test_no_context_of_ours_is_sent(name: str) -> None:
    got: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            got.append({key.lower(): value for key, value in self.headers.items()})
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    async def ask() -> None:
        async with httpx.AsyncClient(event_hooks=http_hooks(), trust_env=False) as client:
            url = f"http://127.0.0.1:{server.server_port}/"
            await client.get(url, headers={name: "lerim.job_id=x", "x-mine": "stays"})

    asyncio.run(ask())
    server.shutdown()
    thread.join()
    server.server_close()
    (headers,) = got
    assert name.lower() not in headers
    assert headers["x-mine"] == "stays"
