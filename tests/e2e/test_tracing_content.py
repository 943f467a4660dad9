"""A5 and A14: no content leaves where it is switched off, keys never do; an error says what it was about.

Markers stand in transcript, prompt, answer, tool arguments and results, HTTP bodies and headers, error bodies and the texts of
exceptions. Four jobs, one for each combination of the two switches, run on one worker that sends to Logfire and to a collector;
everything that left the process is searched: exported bytes, the span store's file, every log, stderr of the commands.
"""

from __future__ import annotations

import json
import re
from itertools import product
from typing import Any

from lerim_jobs.tracing.content import REDACTED
from lerim_jobs.tracing.local.tree import check
from lerim_jobs.tracing.skeleton.record import SpanRecord
from tests.e2e.traces import WHOLE, chats, named, session_id
from tests.e2e.world import World
from tests.model_server import ModelServer, Step, brain, tools
from tests.otlp_receiver import OtlpReceiver
from tests.waiting import until

KEY = "sk-test-0123456789abcdef0123456789"
SWITCHES = {
    f"{'CN'[not content]}{'HN'[not httpx]}": (content, httpx) for content, httpx in product((True, False), repeat=2)
}
"""Switch letters -> (include_content, include_httpx)."""
ANYWHERE = ("TRANSCRIPT", "ANSWER", "ARGUMENTS", "TITLE", "QUESTION")
"""Markers that a trace with content shows."""
IN_BODIES = ("ERRORBODY",)
"""Markers that only bodies of HTTP calls show."""
NOWHERE = ("HEADER",)


def mark(what: str, switch: str) -> str:
    return f"MARK{what}{switch}"


class Minds:
    """Answers with the markers of the job that asks; the first extraction fails, the first summary cannot be parsed."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def __call__(self, request: dict[str, Any]) -> Step:
        found = re.search(r"MARK[A-Z]+?(CH|CN|NH|NN)\b", json.dumps(request["messages"]))
        assert found, request["messages"]
        step = self._answer(request, found[1])
        return Step(step.kind, step.content, step.calls, step.code, (("x-request-id", mark("HEADER", found[1])),))

    def _answer(self, request: dict[str, Any], switch: str) -> Step:
        names = {tool["function"]["name"] for tool in request.get("tools", ())}
        results = [message for message in request["messages"] if message["role"] == "tool"]
        if "add_memory" in names:
            return _lead(results, switch)
        if "read_memory" in names:
            return Step("text", mark("ANSWER", switch))
        model = request["model"]
        is_first = (model, switch) not in self._seen
        self._seen.add((model, switch))
        if model == "summarize-model":
            return Step("text", f"I chat {mark('ANSWER', switch)}") if is_first else brain(request)
        if is_first:
            return Step("status", json.dumps({"error": {"message": mark("ERRORBODY", switch), "code": "x"}}), code=500)
        return _candidates(switch)


def _lead(results: list[Any], switch: str) -> Step:
    said = mark("ARGUMENTS", switch)
    if not results:
        return tools(("search_memories", {"query": said}), ("explore", {"question": mark("QUESTION", switch)}))
    if len(results) == 2:
        return tools(("update_memory", {"candidate": 0, "memory_id": said}))
    if len(results) == 3:
        decided = {"reason": mark("ANSWER", switch)}
        return tools(("add_memory", {"candidate": 0, **decided}), ("skip", {"candidate": 1, **decided}))
    return Step("text", "ok")


def _candidates(switch: str) -> Step:
    said = f"REMEMBER: {mark('TRANSCRIPT', switch)} is kept."
    one = {"kind": "insight", "title": mark("TITLE", switch), "body": "b", "confidence": 0.5, "tags": [], "quote": said}
    two = {**one, "title": f"{mark('TITLE', switch)} two", "quote": mark("ANSWER", switch)}
    again = {**one, "title": f"{mark('TITLE', switch)}!"}  # two that say the same are for the lead
    return Step("text", f"[[ ## candidates ## ]]\n{json.dumps([one, two, again])}\n\n[[ ## completed ## ]]")


def test_a5_a14_no_content_leaves_where_it_is_switched_off(world: World, server: ModelServer) -> None:
    server.answer = Minds()
    roles = world.home.config.read_text()
    jobs: dict[str, str] = {}
    said: list[str] = []
    with OtlpReceiver() as own, OtlpReceiver() as hosted:
        world.extra_env |= {"OTEL_EXPORTER_OTLP_ENDPOINT": own.url, "LOGFIRE_BASE_URL": hosted.url}
        world.extra_env |= {"LOGFIRE_TOKEN": "pylf_v1_us_MARKTOKEN0123456789", "LERIM_TRACING": "1"}
        worker = world.start("tests.broken_worker", "bug", str(world.root / "broken"))
        for switch, (content, httpx) in SWITCHES.items():
            session = session_id(len(jobs))
            world.move_to(f"shop-{len(jobs)}")  # a job may show what its project's memories say
            world.session(session, [f"REMEMBER: {mark('TRANSCRIPT', switch)} is kept."])
            tracing = f"include_content = {str(content).lower()}\ninclude_httpx = {str(httpx).lower()}"
            world.home.config.write_text(f"{roles}\n[tracing]\n{tracing}\n")
            asked = world.lerim("sync", "--window", "all", "--no-wait", "--run-id", session)
            jobs[switch] = asked.stdout.strip()
            said.append(asked.stderr)
        for job_id in jobs.values():
            said.append(world.lerim("jobs", "watch", job_id).stderr)
        until(lambda: len([one for one in own.spans() if one.parent_span_id is None]) == 4, 10, what="four roots")
        world.stop(worker)
        spans, received = own.spans(), {"otlp": own, "logfire": hosted}
        left = {name: b"".join(post.body for post in one.posts) for name, one in received.items()}
        left["headers"] = str([post.headers for one in received.values() for post in one.posts]).encode()
    left["store"] = b"".join(path.read_bytes() for path in world.home.root.glob("traces.sqlite3*"))
    left["logs"] = b"".join(path.read_bytes() for path in [*world.root.glob("*.log"), *world.home.logs.glob("*.log")])
    left["stderr"] = "".join(said).encode()
    assert b"failed with a bug" in left["logs"]
    for channel, data in left.items():
        assert KEY.encode() not in data, channel
        for switch, (content, httpx) in SWITCHES.items():
            for what in (*ANYWHERE, *IN_BODIES, *NOWHERE):
                shown = mark(what, switch).encode() in data
                _judge(shown, what, channel, content=content, httpx=httpx)
    for switch, job_id in jobs.items():
        _whole([span for span in spans if span.attributes.get("lerim.job_id") == job_id], *SWITCHES[switch])


def _judge(shown: bool, what: str, channel: str, *, content: bool, httpx: bool) -> None:
    """What must be there is looked for too: a search that finds nothing anywhere proves nothing."""
    may = channel in ("otlp", "logfire", "store") and content
    must = may and (what in ANYWHERE or (what in IN_BODIES and httpx))
    may = may and (what in ANYWHERE or httpx) and what not in NOWHERE
    assert may or not shown, (channel, what)
    assert shown or not must, (channel, what)


def _whole(spans: list[SpanRecord], content: bool, httpx: bool) -> None:
    assert check(spans) == WHOLE
    posts = named(spans, "POST ")
    assert bool(posts) == (content and httpx)
    assert all("authorization" not in " ".join(post.attributes).lower() for post in posts)
    assert (REDACTED in str(spans)) or content
    assert all(span.attributes["gen_ai.usage.input_tokens"] for span in chats(spans))
    assert named(spans, "execute_tool search_memories")
    (bug,) = [span for span in named(spans, "Finish") if span.status == "error"]
    (raised, retried) = bug.events
    assert raised.attributes["exception.type"] == "ValueError"
    assert raised.attributes["exception.stacktrace"].splitlines()[-1].endswith(" buggy")
    message = raised.attributes["exception.message"]
    assert (message.startswith("cannot count") and "MARKTRANSCRIPT" in message) if content else message == REDACTED
    assert raised.attributes["lerim.input"] == "the job's parameters"
    assert (retried.name, bug.attributes["lerim.outcome"]) == ("retry", "retry_scheduled")
    (failed,) = [span for span in named(spans, "Extract window") if span.status == "error"]
    assert re.fullmatch(
        r"session-claude_code-\S+ turns \d+ to \d+, window 0", failed.events[0].attributes["lerim.input"]
    )
    assert failed.events[0].attributes["exception.stacktrace"]
    root = next(span for span in spans if span.parent_span_id is None)
    assert root.status == "unset"
