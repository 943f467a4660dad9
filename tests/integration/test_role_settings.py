"""Each setting of a role changes what reaches the model server; one test per key."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from lerim_jobs.config import Price, Role, Roles, Settings
from lerim_jobs.errors import ConfigError, ModelRefused, ModelUnavailable
from lerim_jobs.providers import check_models, ollama_models, resolve
from lerim_jobs.sessions.transcript import Turn
from lerim_jobs.sessions.windows import cut
from tests.integration.test_models_http import Notebook, Shelf, models
from tests.model_server import ModelServer, hang, raw, tools
from workers.agents import lead
from workers.models import Models, extraction

SAID = "User: REMEMBER: one thing"


@pytest.mark.parametrize(
    ("provider", "path", "name_of_the_limit"),
    [
        ("openai", "/v1/chat/completions", "max_completion_tokens"),
        ("openrouter", "/v1/chat/completions", "max_tokens"),
        ("zai", "/v1/chat/completions", "max_completion_tokens"),
        ("minimax", "/v1/chat/completions", "max_tokens"),
        ("ollama", "/v1/chat/completions", "max_completion_tokens"),
        ("my-own", "/v1/chat/completions", "max_tokens"),
        ("anthropic", "/v1/messages", "max_tokens"),
    ],
)
def test_provider_model_api_base_and_max_output_tokens(
    server: ModelServer, provider: str, path: str, name_of_the_limit: str
) -> None:
    notebook = Notebook()
    used = models(server, notebook, provider=provider, model="the-model", max_output_tokens=1234)
    extraction.extract(used, SAID)
    (request,) = server.requests
    assert (request["model"], request["_path"]) == ("the-model", path)
    assert request[name_of_the_limit] == 1234
    assert notebook.calls[0].provider == provider


def test_fallback_models_are_tried_in_order(server: ModelServer) -> None:
    server.down |= {"main-model", "second"}
    extraction.extract(models(server, fallback_models=("second", "openai:third")), SAID)
    assert [request["model"] for request in server.requests] == ["main-model", "second", "third"]


def test_timeout_seconds(server: ModelServer) -> None:
    server.script(hang(1.5))
    with pytest.raises(ModelUnavailable, match="Timeout"):
        extraction.extract(models(server, timeout_seconds=0.5), SAID)
    server.script(hang(1.5))
    with pytest.raises(ModelUnavailable, match="UnexpectedModelBehavior"):
        extraction.extract(models(server, timeout_seconds=30), SAID)


def test_max_iterations(server: ModelServer) -> None:
    server.answer = lambda request: tools(("search_memories", {"query": "x"}))
    from tests.integration.test_models_http import TABS

    for limit in (2, 4):
        server.requests.clear()
        with pytest.raises(ModelRefused):
            lead.integrate(models(server, max_iterations=limit), [TABS], Shelf())
        assert len(server.requests) == limit


def test_max_window_tokens_and_window_overlap_tokens(server: ModelServer) -> None:
    turns = [Turn(n, "user", f"turn {n} " + "word " * 100, key=str(n)) for n in range(20)]
    for tokens, overlap in ((400, 0), (400, 200), (2000, 0)):
        server.requests.clear()
        windows = cut(turns, max_tokens=tokens, overlap_tokens=overlap)
        used = models(server, max_window_tokens=tokens, window_overlap_tokens=overlap)
        for window in windows:
            extraction.extract(used, window.text(turns))
        sent = [json.dumps(request["messages"]) for request in server.requests]
        assert len(sent) == len(windows)
        counted = [text.count("word " * 100) for text in sent]
        assert max(counted) <= tokens * 3.5 / 500
        assert (sum(counted) > 20) == (overlap > 0)


@pytest.mark.parametrize(
    ("provider", "model", "thinking", "sent"),
    [
        ("openai", "gpt-5-mini", "high", {"reasoning_effort": "high"}),
        ("openai", "gpt-5-mini", False, {"reasoning_effort": "minimal"}),
        ("openai", "gpt-5-mini", None, {"reasoning_effort": None}),
        ("openrouter", "x-ai/grok-4.1-fast", "low", {"reasoning": {"effort": "low", "enabled": True}}),
        ("zai", "glm-4.7", False, {"thinking": {"type": "disabled", "clear_thinking": False}}),
        ("anthropic", "claude-haiku-4-5", "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}}),
    ],
)
def test_thinking(server: ModelServer, provider: str, model: str, thinking: object, sent: dict[str, object]) -> None:
    extraction.extract(models(server, provider=provider, model=model, thinking=thinking), SAID)
    (request,) = server.requests
    assert {key: request.get(key) for key in sent} == sent


def test_openrouter_provider_order_and_the_cost_it_reports(server: ModelServer) -> None:
    answer = "[[ ## candidates ## ]]\n[]\n\n[[ ## completed ## ]]"
    choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 0.0125}
    body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    server.script(raw(json.dumps({**body, "provider": "groq"})))
    notebook = Notebook()
    order = ("groq", "xai")
    extraction.extract(
        models(server, notebook, provider="openrouter", model="x/m", openrouter_provider_order=order), SAID
    )
    (request,) = server.requests
    assert (request["provider"], request["usage"]) == ({"order": ["groq", "xai"]}, {"include": True})
    assert notebook.calls[0].cost_usd == 0.0125


def test_a_price_of_ones_own_beats_the_bundled_table(server: ModelServer) -> None:
    one = Role(provider="openai", model="gpt-5-mini", api_base=server.url)
    roles = Roles(lead=one, explorer=one, extract=one, summarize=one)
    costs = []
    for prices in ({}, {"gpt-5-mini": Price(1000.0, 2000.0)}):
        notebook = Notebook()
        settings = Settings(roles=roles, prices=prices)
        extraction.extract(Models(settings=settings, env={}, journal=notebook, include_content=True), SAID)
        (call,) = notebook.calls
        costs.append(call.cost_usd)
        assert notebook.wishes[0]["usd"] > (call.cost_usd or 0)
    assert costs[1] == pytest.approx((call.tokens_in * 1000 + call.tokens_out * 2000) / 1e6)
    assert 0 < (costs[0] or 0) < (costs[1] or 0)


class _Tags(BaseHTTPRequestHandler):
    """As much of Ollama as tells which models it has."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/tags" else 404)
        self.end_headers()
        self.wfile.write(json.dumps({"models": [{"name": "qwen3:8b"}, {"name": "other"}]}).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def ollama(port: int = 0) -> Iterator[str]:
    """An Ollama that runs meanwhile; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _Tags)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_ollama_is_found_on_its_port_and_needs_neither_key_nor_model_name() -> None:
    with ollama() as address:
        found = check_models(Settings(), {"OLLAMA_HOST": address})
        assert {(one.model.provider, one.model.model) for one in found.values()} == {("ollama", "qwen3:8b")}
        assert found["lead"].model.api_base == f"http://{address}/v1"
        keyed = resolve(Settings(), {"OLLAMA_HOST": address, "OPENAI_API_KEY": "k"})
        assert keyed["lead"].model.provider == "openai"
    with pytest.raises(ConfigError, match="no model is configured"):
        check_models(Settings(), {"OLLAMA_HOST": "127.0.0.1:1"})


def test_an_ollama_that_starts_later_is_found_and_one_that_was_found_is_kept() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base, now_s = f"http://127.0.0.1:{port}/v1", 100.0
    assert ollama_models(base, now_s=lambda: now_s) == ()
    with ollama(port):
        assert ollama_models(base, now_s=lambda: now_s + 4) == ()
        assert ollama_models(base, now_s=lambda: now_s + 6) == ("qwen3:8b", "other")
    assert ollama_models(base, now_s=lambda: now_s + 1000) == ("qwen3:8b", "other")


@pytest.mark.parametrize("address", ["ftp://x", "http://127.0.0.1:1", "http://bad host:1"])
def test_where_no_ollama_can_be_there_are_no_models(address: str) -> None:
    assert ollama_models(f"{address}/v1") == ()


def test_an_estimate_names_the_models_whose_price_it_does_not_know() -> None:
    from workers.models.estimate import Waiting, estimate

    known = Role(provider="openai", model="gpt-5-mini")
    secret = Role(provider="mine", model="m", api_base="http://127.0.0.1:1/v1")
    waiting = [Waiting(tokens=5000, windows=2), Waiting(tokens=100, windows=1)]
    priced = estimate(waiting, Settings(roles=Roles(lead=known, explorer=known, extract=known, summarize=known)), {})
    assert (priced["sessions"], priced["windows"], priced["unpriced_models"]) == (2, 3, [])
    assert priced["cost_usd"] > 0
    unknown = estimate(waiting, Settings(roles=Roles(lead=secret, explorer=known, extract=known, summarize=known)), {})
    assert (unknown["cost_usd"], unknown["unpriced_models"]) == (None, ["m"])
