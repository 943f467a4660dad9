"""What a trace says: model calls, tools, windows, decisions, and how it reads; `docs/tracing.md` maps the numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lerim_jobs.tracing.skeleton.record import SpanRecord
from tests.e2e.traces import FACTS, WHOLE, chats, named, session_id, whole_trace
from tests.e2e.world import World
from tests.model_server import ModelServer, Step, tools
from tests.otlp_receiver import OtlpReceiver


def session_of(test: str) -> str:
    return session_id(abs(hash(test)) % 10**9)


@pytest.fixture
def traced(shared: World, model: ModelServer, request: pytest.FixtureRequest) -> tuple[World, list[SpanRecord]]:
    """One plain sync of one session with several windows."""
    shared.configure(project=True, window=700)
    text = "[[ ## candidates ## ]]\n" + json.dumps(
        [{"kind": "insight", "title": "Invented", "body": "b", "confidence": 0.5, "tags": [], "quote": "never said"}]
    )
    model.script(Step("text", content=f"{text}\n\n[[ ## completed ## ]]"), model="extract-model")
    shared.known("fact 10 is kept")
    shared.session(session_of(request.node.name), FACTS)
    result = shared.sync()
    return shared, whole_trace(shared, result["job_id"])


def test_a1_a2_a3_a18_calls_tools_windows_and_what_every_span_says(
    traced: tuple[World, list[SpanRecord]], request: pytest.FixtureRequest
) -> None:
    shared, spans = traced
    by_id = {span.span_id: span for span in spans}
    for chat in chats(spans):
        about = chat.attributes
        assert f"{about['lerim.role']}-model" == about["gen_ai.request.model"]
        assert about["lerim.call.cost"] == "unknown"
        for key in ("gen_ai.provider.name", "gen_ai.request.model", "gen_ai.response.model"):
            assert about[key], key
        for key in ("gen_ai.input.messages", "gen_ai.output.messages"):
            assert about[key], key
        assert about["gen_ai.usage.input_tokens"] > 0
        assert chat.end_ns
        assert chat.end_ns > chat.start_ns
        for key in ("lerim.job_id", "lerim.stage", "lerim.attempt", "lerim.project"):
            assert about[key], key
        assert about["gen_ai.conversation.id"] == session_of(request.node.name)
    tool = named(spans, "execute_tool search_memories")[0]
    assert tool.attributes["gen_ai.tool.call.arguments"]
    assert tool.attributes["gen_ai.tool.call.result"]
    explorer = named(spans, "invoke_agent explorer")[0]
    assert by_id[explorer.parent_span_id or ""].name == "execute_tool explore"
    assert chats([span for span in spans if span.parent_span_id == explorer.span_id])
    windows = named(spans, "Extract window")
    assert sorted(span.attributes["lerim.window.index"] for span in windows) == list(range(len(windows)))
    assert sum(span.attributes.get("lerim.output.candidates.decision", 0) for span in windows) >= 4
    (dropped,) = named(spans, "candidate dropped")
    assert dropped.attributes["lerim.reason"] == "its quote is not in the transcript"
    added = {span.attributes["lerim.memory_id"] for span in named(spans, "memory add")}
    assert added == {one["memory_id"] for one in shared.memories() if one["quote"]}
    assert len(added) >= 4
    for span in spans:
        if "lerim.attempt" in span.attributes:
            assert {"lerim.job_id", "lerim.job_kind", "lerim.stage"} <= span.attributes.keys(), span.name
    assert named(spans, "Sync run started")


def test_a13_the_tree_reads_like_the_documentation(traced: tuple[World, list[SpanRecord]]) -> None:
    world, spans = traced
    job_id = spans[0].attributes["lerim.job_id"]
    shown = world.lerim("trace", "show", job_id).stdout
    order = ["Sync run", "Index sessions", "Extract candidates", "Extract window #0", "chat extract-model"]
    order += ["candidates: ", "Lead agent", "search_memories", "explorer", "add_memory", "added", "Sync completed"]
    places = [shown.find(words) for words in order]
    assert -1 not in places, (order, shown)
    assert shown.rstrip().splitlines()[-1].startswith("Sync completed: ")
    assert "fact 0" not in shown
    assert "fact 0" in world.lerim("trace", "show", job_id, "--content").stdout
    assert world.lerim("trace", "show", job_id, "--errors").stdout.startswith("Nothing failed")
    slow = world.lerim("trace", "show", job_id, "--slow").stdout
    assert 2 <= len(slow.splitlines()) <= 11
    listed = next(one for one in world.json("trace", "list") if one["job_id"] == job_id)
    assert (listed["spans"], listed["status"]) == (len(spans), "succeeded")
    assert "ui_url" in world.lerim("trace", "open", job_id, expect=2).stderr
    file = world.home.config.read_text()
    world.home.config.write_text(f'{file}\n[tracing]\nui_url = "http://localhost:16686/trace/{{trace_id}}"\n')
    opened = world.lerim("trace", "open", job_id).stdout
    world.home.config.write_text(file)
    assert opened == f"http://localhost:16686/trace/{spans[0].trace_id}\n"
    report = world.json("report", "--since", "1d")[0]
    assert sum(day["tokens_in"] for day in report["days"]) > 0
    assert {"extract", "integrate"} <= {one["stage"] for one in report["slowest"]}
    assert "error" in world.lerim("report").stdout or "failed" in world.lerim("report").stdout


def test_an_exported_trace_is_an_otlp_request(traced: tuple[World, list[SpanRecord]], tmp_path: Path) -> None:
    import urllib.request

    world, spans = traced
    job_id = spans[0].attributes["lerim.job_id"]
    binary, text = tmp_path / "trace.pb", tmp_path / "trace.json"
    for file in (binary, text):
        world.lerim("trace", "export", job_id, "--otlp", str(file))
    with OtlpReceiver() as receiver:
        urllib.request.urlopen(urllib.request.Request(f"{receiver.url}/v1/traces", data=binary.read_bytes())).close()
        assert receiver.health() == WHOLE
        assert {span.span_id for span in receiver.spans()} == {span.span_id for span in spans}
    exported = json.loads(text.read_text())
    found = [one for group in exported["resourceSpans"] for scope in group["scopeSpans"] for one in scope["spans"]]
    assert {one["spanId"] for one in found} == {span.span_id for span in spans}
    world.lerim("trace", "export", job_id, "--otlp", "/nowhere/x.pb", expect=2)


def test_a4_merges_archives_and_every_decay_calculation(shared: World, model: ModelServer) -> None:
    shared.session(session_id(20), ["REMEMBER: tabs are used.", "REMEMBER: tabs are used here."])
    shared.sync()
    known = [one["memory_id"] for one in shared.memories()]
    merge = {"survivor": known[0], "absorbed": [known[1]], "title": "Tabs", "body": "Tabs.", "reason": "said twice"}
    model.script(tools(("merge_memories", merge)), Step("text", content="Done."), model="lead-model")
    result = shared.json("maintain", "--project", shared.name)[-1]
    spans = whole_trace(shared, result["job_id"])
    (merged,) = named(spans, "memory merge")
    assert merged.attributes["lerim.reason"] == "said twice"
    assert merged.attributes["lerim.absorbed"] == [known[1]]
    decays = named(spans, "decay")
    assert {span.attributes["lerim.memory_id"] for span in decays} == set(known)
    for span in decays:
        confidence, days, effective = (
            span.attributes[f"lerim.decay.{name}"] for name in ("confidence", "days", "effective")
        )
        assert effective == pytest.approx(confidence * (1 - days / 180))
