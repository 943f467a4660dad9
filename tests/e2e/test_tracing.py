"""Acceptance list A with real workers, a scripted model server and real OTLP receivers; `docs/tracing.md` maps the numbers."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from lerim_jobs import config, ids
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import JobFinished, JobRequested, ModelCalled
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.queue import identity
from lerim_jobs.queue.processes import workers_running
from lerim_jobs.tracing.context import reserve
from lerim_jobs.tracing.record import SpanRecord
from lerim_jobs.tracing.tree import TraceHealth, check
from tests.e2e.test_crashes import owner_pid
from tests.e2e.traces import whole_trace
from tests.e2e.world import World
from tests.model_server import ModelServer, Step, brain, status, tools
from tests.otlp_receiver import GrpcReceiver, OtlpReceiver
from tests.waiting import until

WHOLE = TraceHealth(roots=1, orphans=0, duplicates=0)
FACTS = [f"REMEMBER: fact {n} is kept. {'Some words about the shop. ' * 30}" for n in range(6)]


def session_id(number: int) -> str:
    return f"dddddddd-0000-4000-8000-{number:012d}"


def finished(world: World, job_id: str) -> JobFinished | None:
    return next((row.event for row in world.events(job_id) if isinstance(row.event, JobFinished)), None)


def closed(world: World, job_id: str) -> bool:
    return any(row.type == "TraceClosed" for row in world.events(job_id))


def named(spans: list[SpanRecord], name: str) -> list[SpanRecord]:
    return [span for span in spans if span.name.startswith(name)]


def chats(spans: list[SpanRecord]) -> list[SpanRecord]:
    return [span for span in spans if span.attributes.get("gen_ai.operation.name") == "chat" and span.status != "error"]


# --- A12, A14, A10: one trace whatever happens -------------------------------------------------------
def trouble(request: dict[str, Any]) -> Step:
    """The lead's first model is down, it proposes an update of nothing first; the explorer never comes to an end."""
    if request["model"] == "lead-model":
        return status(503)
    names = {tool["function"]["name"] for tool in request.get("tools", ())}
    results = [message for message in request["messages"] if message["role"] == "tool"]
    if "add_memory" in names and len(results) == 2:
        return tools(("update_memory", {"candidate": 0, "memory_id": "no-such-memory"}))
    if "add_memory" in names and len(results) == 3:
        return brain(
            {**request, "messages": [one for one in request["messages"] if one["role"] != "tool"] + results[:2]}
        )
    return brain(request)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_a12_one_trace_through_429_fallback_errors_a_kill_and_a_resume(
    world: World, server: ModelServer, protocol: str
) -> None:
    world.configure(
        window=700,
        lead='fallback_models = ["second-lead"]',
        extra="",
    )
    text = world.home.config.read_text().replace(
        'model = "explorer-model"', 'model = "explorer-model"\nmax_iterations = 1'
    )
    world.home.config.write_text(text)
    server.script(status(429, retry_after_s=0.2), model="extract-model")
    server.answer = trouble
    world.session(session_id(1), FACTS, day=1)
    world.session(session_id(2), FACTS[:1], day=2)
    with GrpcReceiver() if protocol == "grpc" else OtlpReceiver() as receiver:
        world.extra_env.update(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
        world.extra_env |= {"OTEL_SERVICE_NAME": "my-lerim", "LERIM_STOP_GRACE_S": "0.1"}
        world.lerim("up")
        server.delay_s = 0.3
        job_id = world.json("sync", "--window", "all", "--no-wait")[0]["job_id"]
        pid = until(lambda: owner_pid(world, job_id, "integrate"), 40, what="a running lead")
        os.kill(pid, signal.SIGKILL)
        until(lambda: [one for one in workers_running(world.home) if one.pid != pid], 40, what="a new worker")
        until(lambda: owner_pid(world, job_id, "integrate"), 40, what="the lead again")
        world.lerim("down")
        assert finished(world, job_id) is None
        server.delay_s = 0.0
        world.lerim("up")
        ended = until(lambda: finished(world, job_id), 60, what="an end")
        until(lambda: closed(world, job_id), 20, what="a closed trace")
        world.lerim("down")
        received = [span for span in receiver.spans() if span.attributes.get("lerim.job_id") == job_id]
        resources = receiver.resources()
    assert ended
    assert ended.status == "succeeded"
    assert check(received) == WHOLE
    spans = whole_trace(world, job_id)
    assert {span.span_id for span in spans} == {span.span_id for span in received}
    assert {resource["service.name"] for resource in resources} == {"my-lerim"}
    calls = [row.event for row in world.events(job_id) if isinstance(row.event, ModelCalled)]
    told = {span.span_id for span in received}
    assert [
        row.data for row in world.events(job_id) if row.type == "ModelCalled" and row.meta["span_id"] not in told
    ] == []
    assert sum(span.attributes["gen_ai.usage.input_tokens"] for span in chats(received)) == sum(
        one.tokens_in for one in calls
    )
    assert sum(span.attributes["gen_ai.usage.output_tokens"] for span in chats(received)) == sum(
        one.tokens_out for one in calls
    )
    assert sum(one.tokens_in for one in calls) <= server.tokens_in
    outcomes = Counter(span.attributes.get("lerim.outcome") for span in received)
    assert outcomes["worker_lost"] >= 1
    assert outcomes["retry_scheduled"] >= 1
    assert outcomes["handed_back"] >= 1
    assert named(received, "model request attempt lead-model")
    assert any(event.attributes.get("lerim.swallowed") for span in received for event in span.events)
    failing = [span for span in received if span.name == "execute_tool update_memory" and span.status == "error"]
    assert failing
    assert next(span for span in received if span.parent_span_id is None).status == "unset"


# --- A1, A2, A3, A13, A18 ----------------------------------------------------------------------------
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
    shared.session(session_of(request.node.name), FACTS)
    result = shared.sync()
    return shared, whole_trace(shared, result["job_id"])


def test_a1_a2_a3_a18_calls_tools_windows_and_what_every_span_says(
    traced: tuple[World, list[SpanRecord]], request: pytest.FixtureRequest
) -> None:
    _, spans = traced
    by_id = {span.span_id: span for span in spans}
    for chat in chats(spans):
        about = chat.attributes
        assert about["lerim.role"] in ("lead", "explorer", "extract", "summarize")
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
    assert len(named(spans, "memory add")) >= 4
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
    assert all(span.attributes["lerim.decay.effective"] == span.attributes["lerim.decay.confidence"] for span in decays)


# --- A5: the content switch --------------------------------------------------------------------------
KEY = "sk-test-0123456789abcdef0123456789"
MARKS = {
    "transcript": "MARKERTRANSCRIPT",
    "answer": "MARKERANSWER",
    "arguments": "MARKERARGUMENTS",
    "error body": "MARKERERRORBODY",
    "title": "MARKERTITLE",
}


def marked(request: dict[str, Any]) -> Step:
    names = {tool["function"]["name"] for tool in request.get("tools", ())}
    results = [message for message in request["messages"] if message["role"] == "tool"]
    if "add_memory" in names and not results:
        return tools(("search_memories", {"query": MARKS["arguments"]}), ("explore", {"question": MARKS["arguments"]}))
    if "add_memory" in names and len(results) == 2:
        return tools(("update_memory", {"candidate": 0, "memory_id": MARKS["arguments"], "reason": "x"}))
    if "add_memory" in names:
        return (
            tools(("add_memory", {"candidate": 0, "reason": MARKS["answer"]}))
            if len(results) == 3
            else Step("text", "ok")
        )
    if "read_memory" in names:
        return Step("text", content=MARKS["answer"])
    if "earlier_summary" in json.dumps(request["messages"]):
        return brain(request)
    said = f"REMEMBER: {MARKS['transcript']} is kept."
    one = {"kind": "insight", "title": MARKS["title"], "body": "b", "confidence": 0.5, "tags": [], "quote": said}
    two = {**one, "title": f"{MARKS['title']} two", "quote": MARKS["answer"]}
    return Step("text", content=f"[[ ## candidates ## ]]\n{json.dumps([one, two])}\n\n[[ ## completed ## ]]")


@pytest.mark.parametrize(("content", "httpx"), list(product((True, False), (True, False))))
def test_a5_no_content_leaves_where_it_is_switched_off(
    world: World, server: ModelServer, content: bool, httpx: bool
) -> None:
    server.answer = marked
    body = json.dumps({"error": {"message": MARKS["error body"], "code": "x"}})
    server.script(Step("status", content=body, code=500), model="extract-model")
    server.script(Step("text", content=f"I chat {MARKS['answer']}"), model="summarize-model")
    tracing = (
        f"[tracing]\nenabled = true\ninclude_content = {str(content).lower()}\ninclude_httpx = {str(httpx).lower()}\n"
    )
    world.home.config.write_text(f"{world.home.config.read_text()}\n{tracing}")
    world.session(session_id(1), [f"REMEMBER: {MARKS['transcript']} is kept."])
    with OtlpReceiver() as receiver:
        world.extra_env["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
        with world.workers(1):
            job_id = world.sync()["job_id"]
            until(lambda: any(span.parent_span_id is None for span in receiver.spans()), 10, what="a root")
        exported = b"".join(post.body for post in receiver.posts)
        headers = " ".join(f"{post.headers}" for post in receiver.posts)
        spans = receiver.spans()
    shown = world.lerim("trace", "show", job_id, "--json").stdout
    everything = {"exported": exported.decode("utf-8", "replace") + headers, "shown": shown, "logs": world.logs()}
    for channel, text in everything.items():
        assert KEY not in text, channel
        for where, mark in MARKS.items():
            may = content and channel != "logs"
            assert may or mark not in text, (channel, where)
    if content:
        for where in ("transcript", "answer", "arguments", "title"):
            assert MARKS[where] in everything["exported"], where
    assert (MARKS["error body"] in everything["exported"]) == (content and httpx)
    posts = named(spans, "POST ")
    assert bool(posts) == (content and httpx)
    assert all("authorization" not in " ".join(post.attributes).lower() for post in posts)
    assert check(spans) == WHOLE
    assert ("[REDACTED]" in everything["exported"]) or content
    assert all(span.attributes["gen_ai.usage.input_tokens"] for span in chats(spans))
    assert named(spans, "execute_tool search_memories")


# --- A6, A7, A8, A16 ---------------------------------------------------------------------------------
def test_a6_a16_the_variable_only_switches_on_and_stderr_stays_the_same(world: World) -> None:
    world.extra_env["LERIM_TRACING"] = "0"
    with world.workers(1):
        off = world.lerim("sync", "--window", "all")
        assert world.json("trace", "list") == []
        world.extra_env["LERIM_TRACING"] = " Yes "
        on = world.lerim("sync", "--window", "all")
        assert (
            on.stderr.replace(f"Trace: lerim trace show {world.json('trace', 'list')[0]['job_id']}\n", "") == off.stderr
        )
        world.home.config.write_text(f"{world.home.config.read_text()}\n[tracing]\nenabled = true\n")
        world.extra_env["LERIM_TRACING"] = "0"
        warned = world.lerim("sync", "--window", "all").stderr
    (line,) = [line for line in warned.splitlines() if "LERIM_TRACING" in line]
    assert "enabled = false" in line
    assert "OTEL_SDK_DISABLED=true" in line
    assert len(world.json("trace", "list")) == 2


def test_a7_the_callers_backend_gets_the_trace_of_workers_that_know_nothing_of_it(
    world: World, server: ModelServer
) -> None:
    world.session(session_id(1), FACTS[:1])
    world.extra_env["LERIM_TRACING"] = ""
    with world.workers(1), OtlpReceiver() as receiver:
        world.extra_env.update(LERIM_TRACING="1", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
        world.extra_env["OTEL_EXPORTER_OTLP_HEADERS"] = "x-team=blue"
        job_id = world.sync()["job_id"]
        assert check(receiver.spans()) == WHOLE
        assert {span.span_id for span in receiver.spans()} == {span.span_id for span in whole_trace(world, job_id)}
        assert receiver.posts[0].headers["x-team"] == "blue"
        found = world.json("trace", "status")[0]
    assert found["traces"] is True
    assert found["settings"]["enabled"] == {"value": True, "from": "LERIM_TRACING"}
    assert found["backends"] == [f"otlp {receiver.url}"]
    (worker,) = found["workers"]
    assert (worker["tracing"], worker["from"], worker["backends"]) == (False, "default", [])
    assert "x-team" not in json.dumps(found)
    assert "local store" in world.lerim("trace", "status").stdout


# --- A9, A11 -----------------------------------------------------------------------------------------
def test_a9_a_hanging_collector_slows_nothing_and_what_was_lost_is_one_line(world: World, server: ModelServer) -> None:
    server.delay_s = 0.2
    times = {}
    with OtlpReceiver("hang") as receiver:
        for number, (name, variables) in enumerate(
            {"off": {"LERIM_TRACING": "0"}, "hanging": {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}}.items()
        ):
            world.extra_env = variables
            world.move_to(f"shop{number}")
            world.session(session_id(number), FACTS[:3])
            with world.workers(1) as (worker,):
                begin = time.monotonic()
                assert world.sync("--run-id", session_id(number))["status"] == "succeeded"
                times[name] = time.monotonic() - begin
                begin = time.monotonic()
                worker.terminate()
                worker.wait(15)
                stop_s = time.monotonic() - begin
    assert times["hanging"] < times["off"] * 1.5 + 0.5
    assert stop_s < 10
    log = (world.root / f"workers-{len(world.processes) - 1}.log").read_text()
    (line,) = [line for line in log.splitlines() if "spans were not taken" in line]
    assert int(re.findall(r"(\d+) spans", line)[0]) > 5
    assert "Traceback" not in log


def test_a11_a_tenth_of_400_jobs_is_sampled_and_each_of_them_whole(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.extra_env = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
    with OtlpReceiver() as receiver:
        world.extra_env["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
        env = world.env
        settings = config.load(env)
        sampled = 0
        with world.workers(2):
            from lerim_jobs.queue import embedded
            from lerim_jobs.queue.broker import connect, send_all

            broker = connect(embedded.ensure(world.home, settings, env).url)
            store = SqliteStore(world.home.log)
            for number in range(400):
                kept = reserve(settings, env)
                sampled += kept.sampled
                event = JobRequested(
                    "sync",
                    {"agents": ["claude"]},
                    f"scope-{number}",
                    "test",
                    identity.host_name(),
                    kept.trace_id,
                    kept.root_span_id,
                    kept.start_ns,
                    kept.sampled,
                )
                send_all(broker, request_job(store, ids.job_id("sync"), event).freed)
            until(lambda: len(store.read_all(types=["TraceClosed"], limit=1000)) == 400, 120, what="400 ends")
            store.close()
        spans = receiver.spans()
    world.close()
    by_trace: dict[str, list[SpanRecord]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    assert len(by_trace) == sampled
    assert 15 <= sampled <= 70
    with suppress(StopIteration):
        torn = next(trace for trace in by_trace.values() if check(trace) != WHOLE)
        raise AssertionError([span.name for span in torn])
