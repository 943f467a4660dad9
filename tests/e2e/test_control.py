"""Steering what runs: cancel, pause, resume, questions ahead of everything, extracting again."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from typing import Any

import pytest

from lerim_jobs.log.sqlite import SqliteStore
from tests.e2e.test_crashes import closed, ended, enqueue
from tests.e2e.traces import whole_trace
from tests.e2e.world import World
from tests.held import Held
from tests.model_server import ModelServer, text
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("one machine")
SAID = ["REMEMBER: tabs not spaces."]
LONG = [f"REMEMBER: fact {n} is kept. {'Some words about the shop. ' * 30}" for n in range(12)]


def reserved(world: World) -> bytes:
    store = SqliteStore(world.home.log)
    try:
        return store.doc("_reserved", "calls") or b""
    finally:
        store.close()


def following(world: World, job_id: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lerim_jobs.cli", "jobs", "watch", job_id]
    return subprocess.Popen(
        command, env=world.env, cwd=world.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def hears(watcher: subprocess.Popen[str], words: str) -> None:
    """Wait until it has said so: what is over before anybody looked is not told."""
    assert watcher.stderr
    said, descriptor = b"", watcher.stderr.fileno()
    while words.encode() not in said:
        assert select.select([descriptor], [], [], 30)[0], said
        said += os.read(descriptor, 4096)


def types(world: World, job_id: str) -> list[str]:
    return [row.type for row in world.events(job_id)]


def test_b5_a_cancelled_job_ends_its_running_model_calls_soon_and_keeps_nothing(
    shared: World, model: ModelServer, ids: list[str]
) -> None:
    shared.session(ids[0], SAID)
    model.delay_s = 120.0
    job_id = enqueue(shared)
    until(lambda: len(model.requests) >= 2, 30, what="calls of extract and summarize")
    assert job_id.encode() in reserved(shared)
    watcher = following(shared, job_id)
    (report,) = shared.json("jobs", "cancel", job_id)
    assert (report["status"], report["released"], len(report["ended_stages"])) == ("cancelled", [ids[0]], 2)
    until(lambda: model.hung_up == 2, 30, what="the provider sees closed connections")
    out, err = watcher.communicate(timeout=20)
    assert (watcher.returncode, "Sync cancelled" in out, "cancelled" in err) == (1, True, True)
    until(lambda: closed(shared, job_id), 10, what="the trace's end")
    assert job_id.encode() not in reserved(shared)
    assert types(shared, job_id).count("BillPresumed") == 2
    again = shared.lerim("jobs", "cancel", job_id, expect=2)
    assert again.stderr == f"lerim: job '{job_id}' has ended already: cancelled\n"
    spans = whole_trace(shared, job_id)
    outcomes = [span.attributes.get("lerim.outcome") for span in spans]
    assert outcomes.count("cancelled") >= 2
    assert types(shared, job_id).count("StageCompleted") == 1
    model.reset()
    done = shared.sync()
    assert (done["status"], done["memories"]["added"]) == ("succeeded", 1)


def test_b5_a_paused_job_stands_still_is_shown_so_and_goes_on(
    shared: World, model: ModelServer, ids: list[str]
) -> None:
    shared.session(ids[0], SAID)
    model.answer = held = Held()
    job_id = enqueue(shared)
    until(lambda: len(model.requests) >= 2, 30, what="calls of extract and summarize")
    (report,) = shared.json("jobs", "pause", job_id)
    assert (report["changed"], len(report["running"])) == (True, 2)
    watcher = following(shared, job_id)
    held.release()
    until(lambda: types(shared, job_id).count("StageCompleted") == 3, 30, what="an end of what ran")
    assert shared.json("jobs", "list", "--limit", "1")[0]["status"] == "paused"
    assert f"job/{job_id}" in shared.json("status")[0]["paused"]
    assert shared.json("ask", "What about tabs?")[-1]["status"] == "succeeded"
    assert types(shared, job_id).count("StageStarted") == 3
    shared.lerim("jobs", "resume", job_id, "--no-wait")
    _, err = watcher.communicate(timeout=30)
    assert watcher.returncode == 0, err
    assert "paused: running stages finish" in err
    assert "going on" in err
    assert [one["title"] for one in shared.memories()] == ["tabs not spaces"]
    starts = [row for row in shared.events(job_id) if row.type == "StageStarted"]
    assert len({getattr(row.event, "stage", "") for row in starts}) == len(starts)
    shared.lerim("jobs", "resume", job_id, expect=2)


def test_b5_a_paused_queue_holds_its_stages_and_nothing_else(shared: World, model: ModelServer, ids: list[str]) -> None:
    shared.lerim("jobs", "pause", "--queue", "extract")
    shared.session(ids[0], SAID)
    job_id = enqueue(shared)
    watcher = following(shared, job_id)
    until(lambda: "StageCompleted" in types(shared, job_id), 30, what="an end of index")
    until(lambda: shared.json("jobs", "list", "--limit", "1")[0]["status"] == "paused", 10, what="shown as paused")
    assert shared.json("ask", "What about tabs?")[-1]["status"] == "succeeded"
    assert types(shared, job_id).count("StageStarted") == 1
    hears(watcher, "paused: queue extract")
    (report,) = shared.json("jobs", "resume", "--all")
    assert report == {"resumed": {"job_id": None, "queue": "*"}, "changed": True}
    _, err = watcher.communicate(timeout=30)
    assert watcher.returncode == 0, err
    assert shared.json("status")[0]["paused"] == []
    shared.lerim("jobs", "pause", "--queue", "nothing", expect=2)
    shared.lerim("jobs", "pause", expect=2)


def test_b2_b5_a_question_is_answered_ahead_of_a_sync_that_fills_every_slot(
    shared: World, model: ModelServer, ids: list[str]
) -> None:
    shared.configure(project=True, window=900)
    for number in range(3):
        shared.session(ids[number], LONG, day=1 + number)

    def slow(request: dict[str, Any]) -> Any:
        from tests.model_server import Step, brain

        step: Step = brain(request)
        is_answer = "search_memories" in str(request.get("tools")) and "add_memory" not in str(request.get("tools"))
        return step if is_answer else text(step.content, wait_s=60.0)

    model.answer = slow
    job_id = enqueue(shared)
    until(lambda: len(model.requests) >= 8, 30, what="two workers with four calls each")
    assert shared.json("ask", "What about tabs?")[-1]["status"] == "succeeded"
    assert types(shared, job_id).count("StageCompleted") == 1
    assert ended(shared, job_id) == ""
    shared.lerim("jobs", "cancel", job_id)


def test_force_extracts_again_and_doubles_nothing(shared: World, model: ModelServer, ids: list[str]) -> None:
    shared.session(ids[0], SAID)
    assert shared.sync("--run-id", ids[0])["memories"]["added"] == 1
    calls = model.asked("extract-model")
    forced = shared.sync("--force", "--run-id", ids[0])
    assert (forced["memories"]["added"], model.asked("extract-model") - calls) == (0, 1)
    assert [one["title"] for one in shared.memories()] == ["tabs not spaces"]
    assert len(shared.memories("summary")) == 1
    assert shared.sync("--run-id", ids[0])["model_calls"] == 0


def test_cancelling_without_any_worker_closes_the_trace_itself(offline: World) -> None:
    offline.lerim("project", "add", str(offline.project))
    job_id = enqueue(offline)
    (report,) = offline.json("jobs", "cancel", job_id)
    assert report["ended_stages"] == []
    assert types(offline, job_id)[-2:] == ["JobFinished", "TraceClosed"]
    (root,) = offline.trace(job_id)
    assert root["attributes"]["lerim.job_status"] == "cancelled"
