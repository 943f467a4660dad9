"""The model layer over real HTTP: each fault has its outcome, answers are paid once, agents decide everything."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic_ai.models.instrumented import InstrumentationSettings

from lerim_jobs.config import Price, Role, Roles, Settings
from lerim_jobs.errors import ModelRefused
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.proposals import Candidate
from lerim_jobs.tracing.export.backends import BaggageAttributes
from lerim_jobs.tracing.export.exporter import Guard
from tests.model_server import ModelServer, Step, brain, text, tools
from workers.agents import answerer, curator, lead
from workers.models import Models, extraction
from workers.models.calls import Called, CallFailed, Presumed

KEY = "sk-test-marker-0123456789"
SECRET = "MARKER-IN-THE-PROMPT"
ENV = {"OPENAI_API_KEY": KEY}


class Notebook:
    """A journal in memory."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], bytes] = {}
        self.calls: list[Called] = []
        self.failures: list[CallFailed] = []
        self.wishes: list[dict[str, Any]] = []
        self.given_back: list[str] = []
        self.presumed: list[Presumed] = []

    def find(self, request_hash: str, occurrence: int) -> bytes | None:
        return self.answers.get((request_hash, occurrence))

    def admit(self, wish: Mapping[str, Any], request_hash: str, occurrence: int) -> str | float:
        self.wishes.append(dict(wish))
        return f"held-{len(self.wishes)}"

    def give_back(self, keys: Sequence[str]) -> None:
        self.given_back += keys

    def record(self, call: Called, answer: bytes, held: Sequence[str] = ()) -> None:
        self.answers[call.request_hash, call.occurrence] = answer
        self.calls.append(call)

    def failed(self, call: CallFailed, held: Sequence[str] = ()) -> None:
        self.failures.append(call)
        self.given_back += held

    def presume(self, bill: Presumed, held: Sequence[str]) -> None:
        self.presumed.append(bill)
        self.given_back += held


class Shelf:
    """Memories for agents."""

    def __init__(self, *memories: Memory) -> None:
        self.memories = list(memories)

    def search(self, query: str, limit: int) -> list[Memory]:
        return self.memories[:limit]

    def near(self, text: str, limit: int) -> list[Memory]:
        return self.memories[:limit]

    def read(self, memory_id: str) -> Memory | None:
        return next((one for one in self.memories if one.memory_id == memory_id), None)

    def of_session(self, stream: str, limit: int) -> list[Memory]:
        return [one for one in self.memories if any(quote.stream == stream for quote in one.quotes)][:limit]

    def list(self, kind: str | None, limit: int) -> list[Memory]:
        return self.memories[:limit]


def models(
    server: ModelServer, notebook: Notebook | None = None, *, include_content: bool = True, **role: Any
) -> Models:
    one = Role(**{"provider": "openai", "model": "main-model", "api_base": server.url, **role})
    settings = Settings(roles=Roles(lead=one, explorer=one, extract=one, summarize=one))
    return Models(settings=settings, env=ENV, journal=notebook or Notebook(), include_content=include_content)


def memory(memory_id: str = "m1", title: str = "Tabs it is") -> Memory:
    return Memory(memory_id, "p", "decision", title, "We use tabs.", 0.8, 3, 0, 0, 0)


TABS = Candidate("decision", "We use tabs", "We use tabs.", 0.8, "REMEMBER: we use tabs")


# --- paid once -------------------------------------------------------------------------------------
def test_a_second_attempt_replays_every_answer(server: ModelServer) -> None:
    notebook = Notebook()
    first = models(server, notebook)
    proposals = lead.integrate(first, [TABS], Shelf())
    calls = len(server.requests)
    assert (first.calls, first.replayed) == (calls, 0)
    second = models(server, notebook)
    assert lead.integrate(second, [TABS], Shelf()) == proposals
    assert (second.calls, second.replayed, len(server.requests)) == (0, calls, calls)


def test_another_request_never_gets_an_old_answer(server: ModelServer) -> None:
    notebook = Notebook()
    extraction.extract(models(server, notebook), "User: REMEMBER: one thing")
    other = extraction.extract(models(server, notebook), "User: REMEMBER: another thing")
    assert other[0].title == "another thing"
    assert len(server.requests) == 2


def test_an_answer_that_cannot_be_parsed_is_asked_for_once_more_and_both_are_counted(server: ModelServer) -> None:
    server.script(text("I would rather chat."))
    notebook = Notebook()
    found = extraction.extract(models(server, notebook), "User: REMEMBER: one thing")
    assert [one.title for one in found] == ["one thing"]
    assert [call.occurrence for call in notebook.calls] == [0, 1]
    assert len({call.request_hash for call in notebook.calls}) == 1
    server.script(text("chat"), text("chat again"))
    with pytest.raises(ModelRefused, match="2 answers"):
        extraction.extract(models(server), "User: REMEMBER: one thing")
    assert len(server.requests) == 4


def test_tokens_are_those_the_server_charged(server: ModelServer) -> None:
    notebook = Notebook()
    lead.integrate(models(server, notebook), [TABS], Shelf())
    assert sum(call.tokens_in for call in notebook.calls) == server.tokens_in
    assert sum(call.tokens_out for call in notebook.calls) == server.tokens_out
    assert {call.cost_usd for call in notebook.calls} == {None}


# --- agents ----------------------------------------------------------------------------------------
def test_the_lead_is_asked_again_until_every_candidate_is_decided(server: ModelServer) -> None:
    two = [TABS, msgspec.structs.replace(TABS, title="Deploy on Mondays")]
    server.script(
        tools(("add_memory", {"candidate": 0, "reason": "new"})),
        text("I am done."),
        tools(("skip", {"candidate": 9, "reason": "x"}), ("update_memory", {"candidate": 1, "memory_id": "nope"})),
        tools(("update_memory", {"candidate": 1, "memory_id": "m1", "reason": "newer"})),
        text("Now I am."),
    )
    found = lead.integrate(models(server), two, Shelf(memory()))
    assert [(one.action, one.candidate, one.memory_id, one.version) for one in found] == [
        ("add", 0, None, None),
        ("update", 1, "m1", 3),
    ]
    assert "candidates [1] are not decided" in json.dumps(server.requests[2])


def test_the_lead_sees_its_own_proposals_on_top_of_what_is_stored(server: ModelServer) -> None:
    server.script(
        tools(("add_memory", {"candidate": 0, "reason": "new"})),
        tools(("search_memories", {"query": "tabs"})),
        tools(("skip", {"candidate": 1, "reason": "known"})),
    )
    spaces = msgspec.structs.replace(TABS, title="No spaces", body="Spaces are never used for indents.")
    lead.integrate(models(server), [TABS, spaces], Shelf(memory()))
    results = [one["content"] for one in server.requests[-1]["messages"] if one["role"] == "tool"]
    assert json.loads(results[-1])["pending"] == [{"candidate": 0, "title": "We use tabs"}]
    assert json.loads(results[-1])["found"][0]["memory_id"] == "m1"


def test_an_agent_that_never_ends_is_stopped_by_max_iterations(server: ModelServer) -> None:
    server.answer = lambda request: tools(("search_memories", {"query": "x"}))
    with pytest.raises(ModelRefused, match="max_iterations"):
        lead.integrate(models(server, max_iterations=3), [TABS], Shelf())
    assert len(server.requests) == 3


def test_an_explorer_that_gets_nowhere_does_not_fail_the_lead(server: ModelServer) -> None:
    def answer(request: dict[str, Any]) -> Step:
        names = {tool["function"]["name"] for tool in request["tools"]}
        return tools(("search_memories", {"query": "x"})) if "read_memory" in names else brain(request)

    server.answer = answer
    assert [one.action for one in lead.integrate(models(server), [TABS], Shelf())] == ["add"]
    assert "found no answer" in json.dumps(server.requests[-1])


def test_an_answer_may_only_cite_what_was_found(server: ModelServer) -> None:
    final: Callable[[list[str]], Step] = lambda ids: tools(("final_result", {"answer": "Tabs.", "memory_ids": ids}))  # noqa: E731
    server.script(tools(("search_memories", {"query": "tabs"})), final(["m1", "invented"]), final(["m1"]))
    found = answerer.answer(models(server), "Tabs or spaces?", Shelf(memory()))
    assert (found.text, found.citations) == ("Tabs.", ["m1"])
    assert "invented" in json.dumps(server.requests[-1])


def test_an_answer_without_a_citation_is_that_it_is_not_in_memory(server: ModelServer) -> None:
    server.script(tools(("final_result", {"answer": "Tabs, everybody knows.", "memory_ids": []})))
    found = answerer.answer(models(server), "Tabs or spaces?", Shelf(memory()))
    assert (found.text, found.citations) == ("This is not in memory.", [])


def test_the_limit_counts_all_searches_of_one_question(server: ModelServer) -> None:
    class Drawers:
        """Each query has memories of its own."""

        def search(self, query: str, limit: int) -> list[Memory]:
            return [memory(f"{query}{n}") for n in range(limit)]

        def read(self, memory_id: str) -> Memory | None:
            return None

        def of_session(self, stream: str, limit: int) -> list[Memory]:
            return []

        def list(self, kind: str | None, limit: int) -> list[Memory]:
            return []

    searches = [tools(*(("search_memories", {"query": query}) for query in queries)) for queries in ("a", "bc", "a")]
    server.script(
        *searches,
        tools(("final_result", {"answer": "x", "memory_ids": ["b1"]})),
        tools(("final_result", {"answer": "x", "memory_ids": ["b0"]})),
    )
    found = answerer.answer(models(server), "Which?", Drawers(), limit=3)
    results = [json.loads(one["content"]) for one in server.requests[-2]["messages"] if one["role"] == "tool"]
    assert [[one["memory_id"] for one in result] for result in results] == [["a0", "a1"], ["b0"], [], ["a0", "a1"]]
    assert found.citations == ["b0"]
    assert "b1" in json.dumps(server.requests[-1])


def test_the_curator_proposes_merges_and_archives_each_memory_once(server: ModelServer) -> None:
    merge = {"survivor": "m1", "absorbed": ["m2"], "title": "T", "body": "B", "reason": "same"}
    server.script(
        tools(("merge_memories", merge), ("archive_memory", {"memory_id": "m2", "reason": "x"})),
        tools(("archive_memory", {"memory_id": "m3", "reason": "trivial"})),
        text("Done."),
    )
    known = [memory("m1"), memory("m2"), memory("m3")]
    found = curator.curate(models(server), known)
    assert [(one.action, one.memory_id, one.absorbs) for one in found] == [
        ("merge", "m1", ["m2"]),
        ("archive", "m3", []),
    ]


# --- spans and weight ------------------------------------------------------------------------------
def test_agents_and_pipelines_give_the_same_spans_and_no_content_when_it_is_off(server: ModelServer) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    secret = msgspec.structs.replace(TABS, title=SECRET, body=SECRET, quote=SECRET)
    for include_content in (True, False):
        exporter.clear()
        one = models(server, include_content=include_content)
        one.instrument = InstrumentationSettings(tracer_provider=provider, include_content=include_content)
        with trace.use_span(provider.get_tracer("test").start_span("stage"), end_on_exit=True) as stage:
            extraction.extract(one, f"User: REMEMBER: {SECRET}")
            lead.integrate(one, [secret], Shelf())
        spans = exporter.get_finished_spans()
        chats = [span for span in spans if span.name == "chat main-model"]
        assert len(chats) == len(server.requests)
        assert all((span.attributes or {})["gen_ai.usage.input_tokens"] for span in chats)
        assert {span.context.trace_id for span in chats if span.context} == {stage.get_span_context().trace_id}
        everything = " ".join(span.to_json() for span in spans)
        assert (SECRET in everything) == include_content
        assert KEY not in everything
        server.reset()


def test_a1_the_bill_of_a_call_is_the_logs(server: ModelServer) -> None:
    """Prices of the user, answers that a fallback replaced, an explorer in a lead's stage: the span says what was charged."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(BaggageAttributes())
    provider.add_span_processor(SimpleSpanProcessor(Guard(exporter)))
    server.down.add("main-model")
    notebook = Notebook()
    one = models(server, notebook, fallback_models=("second-model",))
    one.settings = msgspec.structs.replace(one.settings, prices={"second-model": Price(1.0, 2.0)})
    one.instrument = InstrumentationSettings(tracer_provider=provider)
    with trace.use_span(provider.get_tracer("test").start_span("stage"), end_on_exit=True):
        lead.integrate(one, [TABS], Shelf())
    chats = [span.attributes or {} for span in exporter.get_finished_spans() if span.name.startswith("chat ")]
    assert len(chats) == len(notebook.calls) > 2
    for call, about in zip(notebook.calls, chats, strict=True):
        assert (about["gen_ai.usage.input_tokens"], about["gen_ai.usage.output_tokens"]) == (
            call.tokens_in,
            call.tokens_out,
        )
        assert call.cost_usd == pytest.approx((call.tokens_in + 2 * call.tokens_out) / 1e6)
        assert about["operation.cost"] == about["lerim.call.cost"] == call.cost_usd
        assert about["lerim.role"] == call.role
    assert {call.role for call in notebook.calls} == {"lead", "explorer"}
    fell = [event for span in exporter.get_finished_spans() for event in span.events if event.name == "lerim.fallback"]
    assert len(fell) == len(chats)
    assert (fell[0].attributes or {})["lerim.from"] == "main-model"
    assert (fell[0].attributes or {})["lerim.to"] == "second-model"
    exporter.clear()
    server.down.clear()
    one.settings = msgspec.structs.replace(one.settings, prices={})
    with trace.use_span(provider.get_tracer("test").start_span("stage"), end_on_exit=True):
        extraction.extract(one, "User: REMEMBER: we use tabs.")
    (about,) = [span.attributes or {} for span in exporter.get_finished_spans() if span.name.startswith("chat ")]
    assert about["lerim.call.cost"] == "unknown"
    assert "operation.cost" not in about


@pytest.mark.slow
def test_litellm_is_never_imported() -> None:
    script = (
        "import sys\nfrom lerim_jobs.kinds import all_stages\nfrom workers import registry\n"
        "for name in all_stages(): registry.load_stage(name)\n"
        "from workers.models import Models, extraction\nfrom lerim_jobs import config\n"
        "class J:\n    find = lambda *a: None\n    record = lambda *a: None\n    failed = lambda *a: None\n"
        "s = config.load({'LERIM_HOME': '/nonexistent', 'LERIM_PROVIDER': 'offline'})\n"
        "m = Models(settings=s, env={}, journal=J(), include_content=True)\n"
        "print(len(extraction.extract(m, 'User: We decided to use tabs in this project.')))\n"
        "print('litellm' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1", "False"], done.stderr
