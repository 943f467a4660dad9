"""A scripted OpenAI-compatible model server on loopback, with faults, exact token counts, and a mind of its own.

    with ModelServer() as server:
        server.script(status(429, retry_after_s=1), text("hi"))     # these first, in order
        server.down.add("primary-model")                            # this model always answers 503
        ...
        server.requests, server.tokens_in, server.tokens_out

Unscripted requests are answered by `brain`. `lerim drill` and the tests use it.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from lerim_jobs.drill.mind import Step, brain, drip, hang, raw, reset, status, text, tools

__all__ = ["ModelServer", "Step", "brain", "drip", "hang", "raw", "reset", "status", "text", "tools"]

_DRIP_EVERY_S = 0.1


@dataclass
class ModelServer:
    """`answer` is asked when nothing is scripted; `delay_s` comes before every answer."""

    answer: Callable[[dict[str, Any]], Step] | None = None
    delay_s: float = 0.0
    down: set[str] = field(default_factory=set)
    requests: list[dict[str, Any]] = field(default_factory=list)
    served: list[dict[str, Any]] = field(default_factory=list)
    hung_up: int = 0
    """Requests whose sender closed the connection before the answer was due."""
    steps: deque[Step] = field(default_factory=deque)
    per_model: dict[str, deque[Step]] = field(default_factory=dict)

    def __enter__(self) -> ModelServer:
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """What to set as `api_base`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def script(self, *steps: Step, model: str | None = None) -> None:
        """Answer the next requests (of one model, or of any) with these, in order."""
        with self._lock:
            queue = self.per_model.setdefault(model, deque()) if model else self.steps
            queue.extend(steps)

    def reset(self) -> None:
        """Forget scripts, faults and what was served."""
        with self._lock:
            self.answer, self.delay_s, self.hung_up = None, 0.0, 0
            for kept in (self.down, self.requests, self.served, self.steps, self.per_model):
                kept.clear()

    def asked(self, model: str) -> int:
        """Requests that named the model."""
        with self._lock:
            return sum(request["model"] == model for request in self.requests)

    @property
    def tokens_in(self) -> int:
        """Prompt tokens of all answers served."""
        with self._lock:
            return sum(usage["prompt_tokens"] for usage in self.served)

    @property
    def tokens_out(self) -> int:
        """Completion tokens of all answers served."""
        with self._lock:
            return sum(usage["completion_tokens"] for usage in self.served)

    def next_step(self, request: dict[str, Any]) -> Step:
        """The answer to a request, which is remembered."""
        with self._lock:
            self.requests.append(request)
            model = request.get("model", "")
            if model in self.down:
                return status(503)
            for queue in (self.per_model.get(model), self.steps):
                if queue:
                    return queue.popleft()
        return (self.answer or brain)(
            _from_anthropic(request) if request.get("_path", "").endswith("/messages") else request
        )

    def pause(self, seconds: float, connection: socket.socket) -> bool:
        """Wait, unless the server stops. False: the other side hung up meanwhile."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopping.wait(min(left, 0.1)):
            if _is_closed(connection):
                with self._lock:
                    self.hung_up += 1
                return False
        return True

    def drip(self, drops: int, connection: socket.socket) -> None:
        """Send one space after another. Raises BrokenPipeError when the other side hangs up meanwhile."""
        for _ in range(drops):
            connection.sendall(b" ")
            if not self.pause(_DRIP_EVERY_S, connection):
                raise BrokenPipeError

    def count(self, usage: dict[str, Any]) -> None:
        """Remember what was charged for an answer."""
        with self._lock:
            self.served.append(usage)


class _Server(ThreadingHTTPServer):
    """Clients that die in mid-request are what this server is for."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def _handler(server: ModelServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if not body:  # the sender was killed half-way
                self.close_connection = True
                return
            request = json.loads(body)
            request["_authorization"] = self.headers.get("authorization")
            request["_path"] = self.path
            step = server.next_step(request)
            if not server.pause(server.delay_s + step.wait_s, self.connection):
                self.close_connection = True
                return
            if step.kind == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
            elif step.kind in ("status", "raw"):
                self._send(step, step.content.encode())
            else:
                answer = _completion(step, request, len(body))
                server.count(answer["usage"])
                shape = _as_anthropic if self.path.endswith("/messages") else lambda given: given
                self._send(step, json.dumps(shape(answer)).encode())

        def _send(self, step: Step, body: bytes) -> None:
            drops = round(step.drip_s / _DRIP_EVERY_S)
            length = str(drops + len(body))
            try:
                self.send_response(step.code)
                for key, value in (("content-type", "application/json"), ("content-length", length), *step.headers):
                    self.send_header(key, value)
                self.end_headers()
                server.drip(drops, self.connection)
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    return Handler


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def _completion(step: Step, request: dict[str, Any], size: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": step.content or None}
    if step.kind == "tools":
        message["tool_calls"] = [
            {
                "id": f"call_{time.monotonic_ns()}_{number}",
                "type": "function",
                "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
            }
            for number, (name, given) in enumerate(step.calls)
        ]
    out = 3 + len(json.dumps(message)) // 4
    usage = {"prompt_tokens": size // 4, "completion_tokens": out, "total_tokens": size // 4 + out}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if step.kind == "tools" else "stop"}
    return {
        "id": f"chatcmpl-{time.monotonic_ns()}",
        "object": "chat.completion",
        "created": 1,
        "model": request["model"],
        "usage": usage,
        "choices": [choice],
    }


def _from_anthropic(request: dict[str, Any]) -> dict[str, Any]:
    """A messages request in the shape the mind reads."""
    messages: list[dict[str, Any]] = []
    for message in request["messages"]:
        content = (
            message["content"]
            if isinstance(message["content"], list)
            else [{"type": "text", "text": message["content"]}]
        )
        for part in content:
            if part["type"] == "tool_result":
                messages.append({"role": "tool", "content": part["content"]})
            elif part["type"] == "text":
                messages.append({"role": message["role"], "content": part["text"]})
    tools = [{"function": {"name": tool["name"]}} for tool in request.get("tools", ())]
    return {**request, "messages": messages, "tools": tools}


def _as_anthropic(answer: dict[str, Any]) -> dict[str, Any]:
    """The same answer in the shape of Anthropic's messages API."""
    message = answer["choices"][0]["message"]
    content = [{"type": "text", "text": message["content"]}] if message["content"] else []
    for call in message.get("tool_calls", ()):
        function = call["function"]
        arguments = json.loads(function["arguments"])
        content.append({"type": "tool_use", "id": call["id"], "name": function["name"], "input": arguments})
    usage = {"input_tokens": answer["usage"]["prompt_tokens"], "output_tokens": answer["usage"]["completion_tokens"]}
    return {
        "id": answer["id"],
        "type": "message",
        "role": "assistant",
        "model": answer["model"],
        "content": content,
        "stop_reason": "tool_use" if message.get("tool_calls") else "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
