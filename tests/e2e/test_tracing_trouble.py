"""Whole traces whatever happens: kills, faults, samplers, collectors that hang; `docs/tracing.md` maps the numbers."""

from __future__ import annotations

import os
import re
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lerim_jobs import config, ids
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import JobRequested, ModelCalled
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine import identity
from lerim_jobs.machine.processes import workers_running
from lerim_jobs.tracing.local.tree import check
from lerim_jobs.tracing.propagation import reserve
from lerim_jobs.tracing.skeleton.record import SpanRecord
from tests.e2e.test_crashes import owner_pid
from tests.e2e.traces import FACTS, WHOLE, chats, closed, finished, named, session_id, whole_trace
from tests.e2e.world import World
from tests.held import Held
from tests.model_server import ModelServer, Step, brain, status, tools
from tests.otlp_receiver import GrpcReceiver, OtlpReceiver
from tests.waiting import until


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


@pytest.mark.slow
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
    server.answer = held = Held(only=lambda request: request["model"] == "second-lead", answers=trouble)
    world.session(session_id(1), FACTS[:3], day=1)
    world.session(session_id(2), FACTS[3:4], day=2)
    with GrpcReceiver() if protocol == "grpc" else OtlpReceiver() as receiver:
        world.extra_env.update(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_EXPORTER_OTLP_PROTOCOL=protocol)
        world.extra_env |= {"OTEL_SERVICE_NAME": "my-lerim", "LERIM_STOP_GRACE_S": "0.1"}
        with world.workers(1):
            job_id = world.json("sync", "--window", "all", "--no-wait")[0]["job_id"]
            until(lambda: held.waiting, 60, what="a running lead")
            os.kill(until(lambda: owner_pid(world, job_id, "integrate"), 10), signal.SIGKILL)
            with world.workers(1):
                until(lambda: held.waiting == 2, 60, what="the lead again")
        assert finished(world, job_id) is None
        held.release()
        with world.workers(1):
            ended = until(lambda: finished(world, job_id), 60, what="an end")
            until(lambda: closed(world, job_id), 20, what="a closed trace")
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


def test_a12_a_closer_killed_before_it_could_say_so_repeats_nothing_at_the_receiver(offline: World) -> None:
    """And one killed before the receiver had the spans loses nothing there."""
    offline.extra_env["OTEL_BSP_SCHEDULE_DELAY"] = "30000"
    with OtlpReceiver() as receiver:
        offline.extra_env["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url

        def received(job_id: str) -> list[SpanRecord]:
            return [span for span in receiver.spans() if span.attributes.get("lerim.job_id") == job_id]

        jobs = [_killed(offline, "kill-emitted")]
        assert any(span.parent_span_id is None for span in received(jobs[0]))
        assert not closed(offline, jobs[0])
        jobs.append(_killed(offline, "kill-queued"))
        assert closed(offline, jobs[1])
        assert not any(span.parent_span_id is None for span in received(jobs[1]))
        with offline.workers(1):
            until(lambda: closed(offline, jobs[0]), 60, what="a closed trace")
            until(lambda: received(jobs[1]), 60, what="the trace that was on its way")
        for job_id in jobs:
            assert check(received(job_id)) == WHOLE
            assert {span.span_id for span in received(job_id)} == {
                span.span_id for span in whole_trace(offline, job_id)
            }


def _killed(world: World, how: str) -> str:
    """A job whose worker was killed at its end."""
    worker = world.start("tests.broken_worker", how, str(world.root / "broken"))
    until(lambda: workers_running(world.home), 60, what="a worker")
    job_id: str = world.json("sync", "--window", "all", "--no-wait")[0]["job_id"]
    until(lambda: worker.poll() is not None, 60, what="a killed worker")
    return job_id


# --- A9, A11 -----------------------------------------------------------------------------------------
@pytest.mark.slow
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
    # An export that anybody waited for would take the 10 s after which exporters give up.
    assert times["hanging"] < times["off"] + 8
    assert stop_s < 10
    log = (world.root / f"workers-{len(world.processes) - 1}.log").read_text()
    (line,) = [line for line in log.splitlines() if "spans were not taken" in line]
    assert int(re.findall(r"(\d+) spans", line)[0]) > 5
    assert "Traceback" not in log


@pytest.mark.slow
def test_a11_a_tenth_of_400_jobs_is_sampled_and_each_of_them_whole(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.extra_env = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
    with OtlpReceiver() as receiver:
        world.extra_env["OTEL_EXPORTER_OTLP_ENDPOINT"] = receiver.url
        env = world.env
        settings = config.load(env)
        sampled = 0
        with world.workers(2):
            from lerim_jobs.machine import embedded
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
