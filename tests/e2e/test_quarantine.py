"""A stage that kills its own worker, every time, with SIGKILL: it is quarantined, and nothing else is lost."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lerim_jobs.jobs.retry import MAX_ATTEMPTS
from tests.e2e.test_crashes import closed, ended, enqueue
from tests.e2e.traces import whole_trace
from tests.e2e.world import World
from tests.model_server import ModelServer, Step, brain, status
from tests.waiting import until

POISONED = "dddddddd-0000-4000-8000-000000000000"
NEIGHBOURS = 8
"""Twice what runs at once beside the poison; a hundred would only take longer."""


def session_id(number: int) -> str:
    return f"dddddddd-0000-4000-8000-{number:012d}"


def slow_windows(request: dict[str, Any]) -> Step:
    """Long enough that neighbours are always caught in flight, and die with the worker."""
    step = brain(request)
    return dataclasses.replace(step, wait_s=0.4) if request["model"] in ("extract-model", "summarize-model") else step


@pytest.mark.slow
def test_b4_a_stage_that_kills_its_worker_is_quarantined_with_evidence_and_everything_else_goes_on(
    world: World, server: ModelServer
) -> None:
    world.session(POISONED, ["REMEMBER: POISON is here."], day=1)
    for number in range(1, NEIGHBOURS + 1):
        world.session(session_id(number), [f"REMEMBER: fact {number} is kept."], day=1 + number)
    server.answer = slow_windows
    poisoned = world.start("tests.poisoned_worker", "--slots", "4")
    job_id = enqueue(world)
    assert until(lambda: ended(world, job_id), 120, what="the job's end") == "partial"
    until(lambda: closed(world, job_id), 20, what="the trace's end")
    expected = sorted(f"fact {number} is kept" for number in range(1, NEIGHBOURS + 1))
    assert sorted(one["title"] for one in world.memories()) == expected
    whole_trace(world, job_id)

    (dead,) = world.json("jobs", "dead", "--project", world.name)
    assert (dead["kind"], dead["job_id"], dead["session_id"], dead["turns"]) == ("session", job_id, POISONED, 2)
    assert dead["stage"].startswith("extract:")
    assert f"{MAX_ATTEMPTS} of {MAX_ATTEMPTS} strikes" in dead["reason"]
    evidence = dead["evidence"]
    assert [one["outcome"] for one in evidence["attempts"]] == ["worker_lost"] * MAX_ATTEMPTS
    assert "killed by SIGKILL" in {one["error"] for one in evidence["attempts"]}
    assert evidence["last_span"]["trace_id"] == world.json("jobs", "list")[0]["trace_id"]
    assert world.lerim("jobs", "dead").stdout.count("extract:") == 1
    assert world.json("status")[0]["sessions"]["quarantined"] == 1
    # Its turns are dead, not waiting: no later sync runs into it again.
    assert world.sync()["model_calls"] == 0

    # Healthy workers: the same turns get their second chance, in a sync of their own.
    world.stop(poisoned)
    again = world.json("jobs", "retry", job_id)[-1]
    assert (again["status"], again["memories"]["added"]) == ("succeeded", 1)
    assert "POISON is here" in [one["title"] for one in world.memories()]
    assert world.json("jobs", "dead") == []
    world.lerim("jobs", "retry", job_id, expect=2)
    world.lerim("jobs", "drop", "--all", expect=2)


def test_b4_dropping_a_dead_session_accepts_the_loss_for_good(world: World, server: ModelServer) -> None:
    world.session(POISONED, ["REMEMBER: this one is refused."])
    server.script(status(400), model="extract-model")
    with world.workers(1):
        job_id = world.sync(expect=3)["job_id"]
        drop = ("jobs", "drop", "--all", "--project", world.name, "--reason", "not worth it")
        (dropped,) = world.json(*drop)
        assert [one["session_id"] for one in dropped["dropped"]] == [POISONED]
        assert world.json("jobs", "dead") == []
        assert world.json("status")[0]["sessions"] == {"known": 1, "waiting": 0, "quarantined": 0}
        assert world.sync()["model_calls"] == 0
        world.lerim("jobs", "retry", job_id, expect=2)
