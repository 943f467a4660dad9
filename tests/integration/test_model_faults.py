"""The fault table of docs/models.md, row by row, through the real HTTP clients of OpenAI and Anthropic."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from lerim_jobs.errors import (
    ContextOverflow,
    JobsError,
    ModelMissing,
    ModelRefused,
    ModelUnavailable,
    Parked,
    RateLimited,
    WrongKey,
)
from lerim_jobs.jobs.retry import decide
from tests.integration.test_models_http import KEY, SECRET, TABS, Notebook, Shelf, models
from tests.model_server import ModelServer, Step, drip, hang, raw, reset, status, text, tools
from workers.agents import lead
from workers.models import extraction
from workers.models.calls import Called, CallFailed

DOCS = Path(__file__).resolve().parents[2] / "docs" / "models.md"


@dataclass(frozen=True)
class Row:
    """A row of the table. `then`: what becomes of the stage without a fallback."""

    fault: str
    step: Step
    error: type[JobsError]
    falls_back: bool
    then: str


def refusal() -> Step:
    message = {"role": "assistant", "content": None, "refusal": f"I will not discuss {SECRET}."}
    choice = {"index": 0, "message": message, "finish_reason": "content_filter"}
    usage = {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}
    answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    return raw(json.dumps(answer))


ROWS = [
    Row("429", status(429, retry_after_s=7), RateLimited, True, "retried"),
    Row("quota used up", status(429, error_code="insufficient_quota"), Parked, True, "parked"),
    Row("500", status(500), ModelUnavailable, True, "retried"),
    Row("503", status(503), ModelUnavailable, True, "retried"),
    Row("time-out", hang(3), ModelUnavailable, True, "retried"),
    Row("answer that only drips", drip(text("late"), 20), ModelUnavailable, True, "retried"),
    Row("connection reset", reset(), ModelUnavailable, True, "retried"),
    Row("truncated body", raw('{"id": "x", "choices": [{"mess'), ModelUnavailable, True, "retried"),
    Row("HTML body", raw("<html>sorry</html>"), ModelUnavailable, True, "retried"),
    Row("JSON of the wrong shape", raw('{"hello": "world"}'), ModelUnavailable, True, "retried"),
    Row("refusal", refusal(), ModelRefused, True, "given up"),
    Row("context overflow", status(400, error_code="context_length_exceeded"), ContextOverflow, True, "split"),
    Row("400", status(400), ModelRefused, True, "given up"),
    Row("401", status(401), WrongKey, False, "given up"),
    Row("403", status(403), WrongKey, False, "given up"),
    Row("404, no such model", status(404), ModelMissing, True, "given up"),
]
IN_THE_CONVERSATION = {"bad tool arguments", "answer that cannot be parsed"}
by_row = pytest.mark.parametrize("row", ROWS, ids=[row.fault for row in ROWS])


def test_the_documented_table_has_these_rows_and_says_what_happens() -> None:
    table = re.findall(r"^\| ([^|]+?) \| (yes|no|-) \| ([^|]+?) \|", DOCS.read_text("utf-8"), re.MULTILINE)
    assert [fault for fault, _, _ in table] == [row.fault for row in ROWS] + sorted(IN_THE_CONVERSATION, reverse=True)
    for row, (_, falls_back, then) in zip(ROWS, table, strict=False):
        assert falls_back == ("yes" if row.falls_back else "no"), row.fault
        assert then.startswith(row.then), row.fault


@by_row
def test_without_a_fallback_one_request_is_made_and_nothing_private_is_said(server: ModelServer, row: Row) -> None:
    server.script(row.step)
    notebook = Notebook()
    with pytest.raises(row.error) as caught:
        extraction.extract(models(server, notebook, timeout_seconds=1.0), f"User: {SECRET}")
    assert type(caught.value) is row.error
    assert len(server.requests) == 1
    assert [one.error_type for one in notebook.failures] == [row.error.__name__]
    assert len(notebook.given_back) == len(notebook.wishes) == 1
    told = f"{caught.value!r} {caught.value.__cause__!r} {notebook.failures}"
    assert KEY not in told
    assert SECRET not in told


def test_a_refusal_is_charged_and_counted_also_when_another_model_answers(server: ModelServer) -> None:
    for fallbacks in ((), ("backup",)):
        server.reset()
        server.script(refusal(), model="main-model")
        notebook = Notebook()
        with suppress(ModelRefused):
            extraction.extract(models(server, notebook, fallback_models=fallbacks), "User: REMEMBER: one thing")
        counted: list[Called | CallFailed] = [*notebook.calls, *notebook.failures]
        assert sum(call.tokens_in for call in counted) == server.tokens_in + 5
        assert sum(call.tokens_out for call in counted) == server.tokens_out + 5


@by_row
def test_the_stage_is_retried_parked_or_given_up(server: ModelServer, row: Row) -> None:
    server.script(row.step)
    with pytest.raises(row.error) as caught:
        extraction.extract(models(server, timeout_seconds=1.0), "User: hello")
    decision = decide(caught.value, attempt=1)
    if row.then == "retried":
        assert decision.retry_in_ms
        assert decision.strike == (row.error is not RateLimited)
    elif row.then == "parked":
        assert (decision.code, decision.strike) == ("parked", False)
        assert decision.retry_in_ms
    else:
        assert decision.retry_in_ms is None
    if isinstance(caught.value, RateLimited):
        assert 7000 <= (decision.retry_in_ms or 0) <= 7100


@by_row
def test_the_next_model_answers_where_the_table_says_so(server: ModelServer, row: Row) -> None:
    server.script(row.step, model="main-model")
    notebook = Notebook()
    used = models(server, notebook, timeout_seconds=1.0, fallback_models=("backup/model:free",))
    if not row.falls_back:
        with pytest.raises(row.error):
            extraction.extract(used, "User: REMEMBER: one thing")
        assert server.asked("backup/model:free") == 0
        return
    found = extraction.extract(used, "User: REMEMBER: one thing")
    assert [one.title for one in found] == ["one thing"]
    (call,) = notebook.calls
    assert (call.model_asked, call.model) == ("main-model", "backup/model:free")
    assert [one["model"] for one in call.failed] == ["main-model"]


def test_when_every_model_fails_the_error_that_can_still_get_better_decides(server: ModelServer) -> None:
    server.script(status(400), model="main-model")
    server.script(status(429, retry_after_s=2), model="backup")
    with pytest.raises(RateLimited):
        extraction.extract(models(server, fallback_models=("backup",)), "User: REMEMBER: x y")


def test_a_context_overflow_splits_the_window_until_it_fits(server: ModelServer) -> None:
    turns = [f"User: REMEMBER: fact number {number} {'x' * 900}." for number in range(8)]
    limit = 4000

    def answer(request: dict[str, object]) -> Step:
        prompt = json.dumps(request["messages"])
        from tests.model_server import brain

        return status(400, error_code="context_length_exceeded") if len(prompt) > limit + 3000 else brain(request)

    server.answer = answer
    notebook = Notebook()
    found = extraction.extract(models(server, notebook), "\n\n".join(turns))
    assert [one.title.split(" xxx")[0] for one in found] == [f"fact number {number}" for number in range(8)]
    assert len(notebook.failures) >= 1
    summary = extraction.summarize(models(server, notebook), ["\n\n".join(turns)])
    assert summary.title == "Work on the shop"


def test_bad_tool_arguments_are_told_to_the_model_and_each_call_is_counted(server: ModelServer) -> None:
    server.script(
        tools(("add_memory", '{"candidate": "not a number"}')),
        tools(("add_memory", "{broken json")),
        tools(("add_memory", {"candidate": 0, "reason": "new"})),
    )
    notebook = Notebook()
    proposals = lead.integrate(models(server, notebook), [TABS], Shelf())
    assert [one.action for one in proposals] == ["add"]
    assert len(notebook.calls) == len(server.requests) == 3


# --- Anthropic -------------------------------------------------------------------------------------
ANTHROPIC = [
    (status(429, retry_after_s=7), RateLimited),
    (status(500), ModelUnavailable),
    (status(529), ModelUnavailable),
    (hang(3), ModelUnavailable),
    (drip(text("late"), 20), ModelUnavailable),
    (reset(), ModelUnavailable),
    (raw("<html>sorry</html>"), ModelUnavailable),
    (raw('{"hello": "world"}'), ModelUnavailable),
    (status(401), WrongKey),
    (status(404), ModelMissing),
    (status(400), ModelRefused),
]


@pytest.mark.parametrize(("step", "error"), ANTHROPIC, ids=lambda one: getattr(one, "__name__", ""))
def test_anthropic_faults_end_the_same_way_after_one_request(
    server: ModelServer, step: Step, error: type[JobsError]
) -> None:
    server.script(step)
    used = models(server, provider="anthropic", model="claude-haiku-4-5", timeout_seconds=1.0)
    with pytest.raises(error) as caught:
        extraction.extract(used, f"User: {SECRET}")
    assert type(caught.value) is error
    assert len(server.requests) == 1
    assert KEY not in repr(caught.value)
    assert SECRET not in repr(caught.value)


def test_anthropic_answers_pipelines_and_agents_with_tools_over_http(server: ModelServer) -> None:
    notebook = Notebook()
    used = models(server, notebook, provider="anthropic", model="claude-haiku-4-5")
    found = extraction.extract(used, "User: REMEMBER: we use tabs")
    assert [one.action for one in lead.integrate(used, found, Shelf())] == ["add"]
    assert {request["_path"] for request in server.requests} == {"/v1/messages"}
    assert sum(call.tokens_in for call in notebook.calls) == server.tokens_in
    assert all(call.provider == "anthropic" and call.cost_usd for call in notebook.calls)
