"""Paid once, never overspent: kills at every journal boundary, workers racing at a cap, sums equal to the server's own."""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lerim_jobs.log.events import JobFinished, ModelCalled
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine.processes import workers_running
from tests.e2e.world import World
from tests.held import Held
from tests.model_server import ModelServer, Step, brain, status
from tests.waiting import until

THREE_WINDOWS = [f"REMEMBER: fact {n} is kept. {'Some words about the shop. ' * 30}" for n in range(6)]
_PRICES = "".join(
    f'[prices."{role}-model"]\ninput_per_million = 10.0\noutput_per_million = 10.0\n'
    for role in ("lead", "explorer", "extract", "summarize")
)


def session_id(number: int) -> str:
    return f"bbbbbbbb-0000-4000-8000-{number:012d}"


def memories(world: World) -> list[tuple[Any, ...]]:
    found = [(one["kind"], one["title"], one["body"], one["confidence"], one["quote"]) for one in world.memories()]
    return sorted(found)


def used(world: World, job_id: str) -> dict[str, Any]:
    (line,) = [line for line in world.json("usage", "--by", "job") if line["key"] == job_id]
    return {key: line[key] for key in ("calls", "tokens_in", "tokens_out", "cost_usd", "unpriced_calls", "errors")}


@pytest.mark.slow
def test_b3_c4_a_kill_at_every_journal_boundary_pays_nothing_finished_again(
    tmp_path: Path, server: ModelServer
) -> None:
    world = World(tmp_path, url=server.url)
    world.configure(window=700)
    arm = tmp_path / "arm"

    def sync(number: int, boundary: str) -> tuple[int, dict[str, Any], list[tuple[Any, ...]], int]:
        world.move_to(f"shop{number:02d}")
        # Two that say the same, so that the lead has something to decide.
        world.session(session_id(number), [*THREE_WINDOWS, "REMEMBER: fact 5 is kept!"])
        before = len(server.requests)
        if boundary:
            arm.write_text(boundary)
        result = world.sync("--run-id", session_id(number))
        assert result["status"] == "succeeded"
        assert not arm.exists(), f"nothing died at {boundary}"
        deaths = sum(getattr(row.event, "takeover", False) for row in world.events(result["job_id"]))
        return len(server.requests) - before, used(world, result["job_id"]), memories(world), deaths

    try:
        for _ in range(2):  # one goes on while the other is started again
            world.start("tests.killing_worker", str(arm), "--slots", "1")
        until(lambda: len(workers_running(world.home)) == 2, 60, what="two workers")
        clean_calls, clean_usage, clean_memories, _ = sync(0, "")
        assert clean_calls == clean_usage["calls"] >= 8
        assert len(clean_memories) == 6
        boundaries = [(side, call) for call in range(1, clean_calls + 1) for side in ("before", "after")]
        for number, (side, call) in enumerate(boundaries, 1):
            calls, usage, kept, deaths = sync(number, f"{side} {call}")
            assert deaths >= 1, (side, call)
            assert calls <= clean_calls + (side == "before"), (side, call)
            assert usage == clean_usage, (side, call)
            assert kept == clean_memories, (side, call)
    finally:
        world.close()
    until(lambda: not world.ours(), 10, what=f"an end of all processes {world.ours()}")


class Till:
    """What the server charged so far, at $10 for a million tokens."""

    def __init__(self, server: ModelServer) -> None:
        self._server = server

    @property
    def usd(self) -> float:
        return (self._server.tokens_in + self._server.tokens_out) * 10 / 1e6


@pytest.mark.slow
def test_eight_workers_racing_at_a_cap_never_pass_it_and_go_on_after_a_raise(world: World, server: ModelServer) -> None:
    cap, racing = 0.1, 4
    world.configure(window=400, extra="max_output_tokens = 200\n")
    config = world.home.config
    config.write_text(f"{config.read_text()}\n{_PRICES}\n[budget]\nper_day_usd = {cap}\n")
    for number in range(3):
        world.session(session_id(number), THREE_WINDOWS, day=number + 1)
    # A process has one call of this queue at a time: so many at once are so many workers.
    server.answer = held = Held(opens_at=racing)
    till = Till(server)
    world.start("workers", "--processes", "8", "--slots", "1")
    until(lambda: len(workers_running(world.home)) == 8, 120, what="eight workers")
    parked = world.sync(expect=6, timeout_s=180)
    assert (parked["status"], parked["job_id"][:4]) == ("parked", "sync")
    assert "per_day_usd" in parked["error"]
    assert f"of ${cap:g}" in world.lerim("usage", "--by", "day").stdout
    until(lambda: not running(world), 60, what="an end of the calls that were let out")
    assert 0 < till.usd <= cap
    assert held.is_open
    owners = {row.meta["worker"] for row in world.events(parked["job_id"]) if isinstance(row.event, ModelCalled)}
    assert len(owners) > 1  # one of those whose calls were held may have been told to stop before it noted its answer

    config.write_text(config.read_text().replace(f"per_day_usd = {cap}", "per_day_usd = 50.0"))
    finished = until(lambda: _finished(world, parked["job_id"]), 180, what="an end of the parked job")
    assert finished
    assert finished.status == "succeeded"
    called = [row.event for row in world.events(parked["job_id"]) if isinstance(row.event, ModelCalled)]
    assert len({(call.stage, call.request_hash, call.occurrence) for call in called}) == len(called)
    assert len(called) == len(server.requests)
    assert sum(call.tokens_in for call in called) == server.tokens_in
    assert len(world.memories()) == 6


def running(world: World) -> list[str]:
    """Stages that some worker holds."""
    store = SqliteStore(world.home.log)
    try:
        return [row.stage for row in store.running_stages()]
    finally:
        store.close()


def _finished(world: World, job_id: str) -> JobFinished | None:
    return next((row.event for row in world.events(job_id) if isinstance(row.event, JobFinished)), None)


@pytest.mark.slow
def test_a_parked_job_is_resumed_by_command_without_any_worker(world: World, server: ModelServer) -> None:
    config = world.home.config
    config.write_text(f"{config.read_text()}\n{_PRICES}\n[budget]\nper_job_usd = 0.001\n")
    world.session(session_id(0), ["REMEMBER: one fact is kept."])
    parked = world.sync(expect=6)
    assert (parked["model_calls"], server.requests) == (0, [])
    assert "per_job_usd" in world.lerim("jobs", "watch", parked["job_id"], expect=6).stdout
    config.write_text(config.read_text().replace("per_job_usd = 0.001", "per_job_usd = inf"))
    done = world.json("jobs", "resume", parked["job_id"])[-1]
    assert (done["status"], done["memories"]["added"]) == ("succeeded", 1)
    world.lerim("jobs", "resume", parked["job_id"], expect=2)


@pytest.fixture
def busy(shared: World, model: ModelServer) -> World:
    """Two sessions were synced, with a 429, a fallback and an unusable answer on the way."""
    shared.configure(project=True, window=700, extract='fallback_models = ["explorer-model"]')
    model.script(status(503), model="extract-model")
    model.script(Step("text", content="I would rather chat."), model="summarize-model")
    model.script(status(429, retry_after_s=0.1), model="lead-model")
    for number in range(2):
        shared.session(session_id(700 + number), THREE_WINDOWS[number:], day=number + 1)
    shared.sync()
    shared.lerim("ask", "What is kept?", "--project", shared.name)
    return shared


def test_a15_usage_sums_equal_what_the_server_served(busy: World, model: ModelServer) -> None:
    served = {"calls": len(model.served), "tokens_in": model.tokens_in, "tokens_out": model.tokens_out}
    keys: dict[str, set[str]] = {}
    for by in ("role", "model", "project", "session", "day", "job"):
        lines = busy.json("usage", "--by", by)
        assert {key: sum(line[key] for line in lines) for key in served} == served, by
        assert [sum(line[key] for line in lines) for key in ("errors", "retries", "fallbacks")] == [2, 2, 1], by
        assert all(line["p50_ms"] <= line["p95_ms"] for line in lines if line["calls"])
        assert all(line["cost_usd"] is None and line["unpriced_calls"] == line["calls"] for line in lines)
        keys[by] = {line["key"] for line in lines}
    # No log line carries a key or a word of a transcript, whatever went wrong.
    assert "Uncaught" not in busy.logs()
    for private in ("sk-test-0123456789", "REMEMBER", "Some words about the shop"):
        assert private not in busy.logs()
    assert keys["role"] == {"lead", "explorer", "extract", "summarize"}
    assert keys["model"] == {"extract-model", "lead-model", "explorer-model", "summarize-model"}
    assert keys["session"] == {session_id(700), session_id(701), None}
    assert len(keys["job"]) == 2


def test_b5_max_concurrency_holds_over_all_workers(world: World, server: ModelServer) -> None:
    config = world.home.config
    world.session(session_id(0), THREE_WINDOWS * 3)
    at_once, most, lock, both = 0, 0, threading.Lock(), threading.Event()

    def answer(request: dict[str, Any]) -> Step:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
            if at_once == 2:
                both.set()
        both.wait(60)
        time.sleep(0.1)  # in which one too many could come
        with lock:
            at_once -= 1
        return brain(request)

    server.answer = answer
    world.configure(window=400)
    config.write_text(f"{config.read_text()}\n[providers.openai]\nmax_concurrency = 2\n")
    with world.workers(2):
        assert world.sync()["status"] == "succeeded"
    assert most == 2


def test_an_estimate_calls_no_model_and_takes_nothing(world: World, server: ModelServer) -> None:
    world.configure(window=700)
    world.home.config.write_text(f"{world.home.config.read_text()}\n{_PRICES}")
    world.session(session_id(0), THREE_WINDOWS)
    with world.workers(1):
        shown = world.lerim("sync", "--window", "all", "--estimate").stdout
        priced = world.sync("--estimate")["estimate"]
        assert server.requests == []
        real = world.sync()
        after = world.sync("--estimate")["estimate"]
    assert re.search(
        r"1 sessions in \d+ windows: about \d+ calls, [\d,]+ tokens in, [\d,]+ out; cost about \$\d", shown
    )
    assert (priced["sessions"], priced["unpriced_models"], after["sessions"]) == (1, [], 0)
    assert priced["windows"] == real["windows"] >= 3
    assert 0.2 < real["tokens_in"] / priced["tokens_in"] < 5
    assert 0.2 < real["cost_usd"] / priced["cost_usd"] < 5


def test_models_shows_sources_and_check_asks_each_role_once(world: World, server: ModelServer) -> None:
    rows = {row["role"]: row for row in world.json("models")}
    assert rows["extract"]["model"] == "extract-model"
    assert rows["extract"]["sources"]["model"] == str(world.home.config)
    assert "timeout_seconds" not in rows["extract"]["sources"]
    assert rows["lead"]["timeout_seconds"] == 300
    table = world.lerim("models").stdout
    assert "explorer-model" in table
    assert "not needed" in table
    world.start("workers")
    checked = {one["role"]: one for one in world.json("models", "check")}
    assert {role: one["ok"] for role, one in checked.items()} == dict.fromkeys(rows, True)
    assert len(server.requests) == 4
    server.reset()
    server.script(status(401), model="lead-model")
    server.down.add("extract-model")
    failed = {one["role"]: one for one in world.json("models", "check", expect=1)}
    assert {role for role, one in failed.items() if not one["ok"]} == {"lead", "extract"}
    assert "rejected the API key" in failed["lead"]["error"]
    assert world.json("usage")[0]["calls"]


def test_a_wrong_key_gives_the_session_back(world: World, server: ModelServer) -> None:
    world.session(session_id(0), ["REMEMBER: one fact is kept."])
    server.script(status(401), model="extract-model")
    with world.workers(1):
        failed = world.sync(expect=3)
        assert failed["status"] == "partial"
        assert "WrongKey" in failed["lost_stages"][0]["reason"]
        assert world.sync()["memories"]["added"] == 1
