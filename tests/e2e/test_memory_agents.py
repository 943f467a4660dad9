"""Memories with real commands and workers: nothing twice, questions beside a sync, a killed clean-up, where one came from."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from lerim_jobs.log.events import Event, JobFinished, MemoryAdded, Quote
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.memory.checks.evidence import unsupported
from lerim_jobs.memory.stored import memory_stream
from tests.e2e.test_crashes import owner_pid
from tests.e2e.traces import whole_trace
from tests.e2e.world import World
from tests.held import Held
from tests.model_server import ModelServer, Step, text, tools
from tests.waiting import until

pytestmark = pytest.mark.xdist_group("memory machine")
SESSION = "eeeeeeee-0000-4000-8000-000000000001"


@pytest.fixture
def rules(shared: World) -> Iterator[World]:
    """The shared machine, asked for jobs with the offline model."""
    shared.extra_env["LERIM_PROVIDER"] = "offline"
    yield shared
    del shared.extra_env["LERIM_PROVIDER"]


def proofs(world: World) -> tuple[int, list[tuple[str, str]]]:
    store = SqliteStore(world.home.log)
    try:
        return unsupported(store)
    finally:
        store.close()


def append(world: World, *events: Event) -> None:
    """What agents added earlier."""
    store = SqliteStore(world.home.log)
    for event in events:
        store.append(memory_stream(getattr(event, "memory_id", "")), [event])
    store.close()


def test_the_same_session_three_times_and_by_force_is_nothing_new(rules: World, ids: list[str]) -> None:
    rules.session(ids[0], ["We decided to keep carts in Redis.", "Please always run the linter before a commit."])
    assert rules.sync()["memories"]["added"] == 2
    for options in ([], [], ["--force", "--run-id", ids[0]]):
        again = rules.sync(*options)
        assert [again["memories"][name] for name in ("added", "updated", "merged", "archived")] == [0] * 4, options
    assert len(rules.memories()) == 2
    assert proofs(rules)[1] == []
    (known,) = rules.json("ask", "Where do we keep carts?", "--project", rules.name)
    assert known["citations"] == [one["memory_id"] for one in rules.memories() if "carts" in one["title"]]
    assert '"We decided to keep carts in Redis."' in known["answer"]
    assert f"[{known['citations'][0]}]" in known["answer"]
    (unknown,) = rules.json("ask", "Which linter does the zebra's uncle like best?", "--project", rules.name)
    assert (unknown["answer"], unknown["citations"]) == ("This is not in memory.", [])


def test_b2_a_question_does_not_wait_for_a_large_sync(shared: World, model: ModelServer, ids: list[str]) -> None:
    shared.session(ids[0], ["REMEMBER: carts live in Redis."])
    shared.sync()
    shared.configure(project=True, window=900)
    shared.session(
        ids[1], [f"REMEMBER: fact {n} is kept. {'Some words about the shop. ' * 30}" for n in range(30)], day=2
    )

    model.answer = held = Held(only=lambda request: request["model"] == "extract-model")
    job_id = shared.json("sync", "--window", "all", "--no-wait")[0]["job_id"]
    until(lambda: held.waiting >= 4, 30, what="windows at the model")
    (known,) = shared.json("ask", "Where do carts live?", "--project", shared.name)
    assert (known["status"], len(known["citations"])) == ("succeeded", 1)
    assert not any(isinstance(row.event, JobFinished) for row in shared.events(job_id))
    held.release()
    shared.lerim("jobs", "watch", job_id)


def test_memory_show_leads_to_the_sentence_the_call_and_the_decision(
    shared: World, model: ModelServer, ids: list[str]
) -> None:
    shared.session(ids[0], ["Hello \x1b[2J there.", "REMEMBER: carts live in Redis."])
    job_id = shared.sync()["job_id"]
    (carts,) = shared.memories()
    spans = {span.span_id: span for span in whole_trace(shared, job_id)}
    assert spans[carts["span_id"]].name == "Lead agent"
    assert carts["trace_id"] == spans[carts["span_id"]].trace_id
    shown = shared.lerim("memory", "show", carts["memory_id"][:8]).stdout
    (about,) = shared.json("memory", "show", carts["memory_id"])
    (origin,) = about["origins"]
    kept = spans[origin["kept_by"]["span_id"]]
    assert kept.attributes["gen_ai.response.model"] == "extract-model"
    assert origin["placed_by"]["span_id"] == carts["span_id"]
    for part in (
        '"REMEMBER: carts live in Redis"',
        f"turn 2 of claude_code session {ids[0]}",
        ">    2  user: REMEMBER: carts live in Redis.",
        "1  assistant: Understood, point 0 is done.",
        f"extract-model (extract), {origin['kept_by']['tokens_in']} + ",
        origin["kept_by"]["span_id"],
        "placed by  no agent, added: nothing stored is near it",
        f"lerim trace show {job_id}",
    ):
        assert part in shown, (part, shown)
    assert "\x1b" not in shown
    assert len(shown.splitlines()) <= 24


def test_a_dry_run_of_a_clean_up_prints_its_plan(shared: World, model: ModelServer) -> None:
    project_id = next(one["project_id"] for one in shared.json("project", "list") if one["name"] == shared.name)
    said = Quote("Deploys happen on Mondays", "s0", "session-codex-0", "codex", 0, "user")
    twins = [
        MemoryAdded(
            f"{key}{project_id[:6]}", project_id, "insight", "Deploys happen on Mondays", "So.", 0.7, quotes=[said]
        )
        for key in ("aa", "bb")
    ]
    append(shared, *twins)
    first, second = (one.memory_id for one in twins)
    merge = {
        "survivor": first,
        "absorbed": [second],
        "title": "Deploys happen on Mondays",
        "body": "So.",
        "reason": "same",
    }
    gone = {"memory_id": first, "reason": "x"}
    model.script(tools(("merge_memories", merge), ("archive_memory", gone)), text("Done."), model="lead-model")
    plan = shared.lerim("maintain", "--dry-run", "--project", shared.name).stdout
    assert "dry run: nothing was kept" in plan
    (row,) = [line for line in plan.splitlines() if line.startswith("merge")]
    assert row.split() == ["merge", first[:8], "Deploys", "happen", "on", "Mondays", second[:8], "same"]
    assert len(shared.memories()) == 2


def test_b3_a_clean_up_killed_half_way_goes_on_without_paying_again(world: World, server: ModelServer) -> None:
    world.configure(extra="")
    config = world.home.config.read_text() + "\n[memory]\ncurate_batch = 2\ncurate_batches = 4\n"
    world.home.config.write_text(config)
    (project,) = world.json("project", "list")
    said = Quote("x", "s0", "session-codex-0", "codex", 0, "user")
    topics = ["invoice rounding uses bankers", "nightly backups reach cellar", "search tolerates typing errors"]
    for number, topic in enumerate(topics):
        for twin in "ab":
            title = f"{topic} {twin * 3}"
            added = MemoryAdded(f"{number}{twin}", project["project_id"], "insight", title, topic, 0.7, quotes=[said])
            append(world, added)

    def merging(request: dict[str, Any]) -> Step:
        if any(message["role"] == "tool" for message in request["messages"]):
            return text("Done.")
        content = next(one["content"] for one in request["messages"] if one["role"] == "user")
        one, other = json.loads(content)["memories"]
        words = {"title": one["title"], "body": one["body"], "reason": "same"}
        return tools(("merge_memories", {"survivor": one["memory_id"], "absorbed": [other["memory_id"]], **words}))

    server.answer = held = Held(only=lambda request: len(server.requests) == 4, answers=merging)
    with world.workers(2, slots=1):
        job_id = world.json("maintain", "--no-wait")[0]["job_id"]
        until(lambda: held.waiting, 30, what="a clean-up half way")
        os.kill(until(lambda: owner_pid(world, job_id, "curate"), 30), signal.SIGKILL)
        held.release()
        done = until(
            lambda: [row.event for row in world.events(job_id) if isinstance(row.event, JobFinished)], 60, what="an end"
        )
    assert done[0].status == "succeeded"
    assert done[0].result["memories"]["merged"] == 3
    assert done[0].result["replayed_calls"] >= 3
    assert len(server.requests) == 7
    assert len(world.memories()) == 3
