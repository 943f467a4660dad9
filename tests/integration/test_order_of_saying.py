"""Later beats earlier by when it was said, in whatever order sessions are read; what was replaced comes back with an undo."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from lerim_jobs.memory.checks.evidence import unsupported
from lerim_jobs.memory.history.undo import of_job, of_memory, undo
from lerim_jobs.memory.stored import load_memories
from tests.here import Here
from tests.model_server import ModelServer, Step, brain, tools

SESSIONS = {day: f"eeeeeeee-0000-4000-8000-00000000000{day}" for day in (1, 2, 3)}
PLACES = {1: "SQLite", 2: "Postgres", 3: "Redis"}
Made = Callable[[], Here]


@pytest.fixture
def made(tmp_path: Path, server: ModelServer) -> Iterator[Made]:
    places: list[Here] = []

    def make() -> Here:
        places.append(Here(tmp_path / f"m{len(places)}", url=server.url))
        return places[-1]

    server.answer = replacing
    yield make
    for place in places:
        place.close()


def replacing(request: dict[str, Any]) -> Step:
    """A lead for whom whatever is read later is true, which it is not."""
    if not any(tool["function"]["name"] == "add_memory" for tool in request.get("tools", ())):
        return brain(request)
    asked = json.loads(next(one["content"] for one in request["messages"] if one["role"] == "user"))
    calls: list[tuple[str, Any]] = []
    for one in asked["candidates"]:
        about: dict[str, Any] = {"candidate": one["candidate"], "reason": "says something else"}
        if one["nearest"]:
            calls.append(("supersede_memory", {**about, "memory_id": one["nearest"][0]}))
        else:
            calls.append(("add_memory", about))
    return tools(*calls)


def say(here: Here, day: int) -> None:
    here.session(SESSIONS[day], [f"REMEMBER: the carts of the shop live in {PLACES[day]}."], day=day)


def titles(here: Here, *statuses: str) -> list[str]:
    return [one.title.rpartition(" ")[2] for one in here.memories(*statuses)]


@pytest.mark.parametrize("order", list(permutations((1, 2, 3))))
def test_the_last_word_stays_in_whatever_order_sessions_are_read(made: Made, order: tuple[int, ...]) -> None:
    here = made()
    for day in order:
        say(here, day)
        here.sync()
    assert titles(here) == ["Redis"]
    assert titles(here, "archived") == ["Postgres", "SQLite"]
    (now,) = here.memories()
    assert all(one.superseded_by for one in here.memories("archived"))
    assert now.version == 1
    assert unsupported(here.store)[1] == []


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_undoing_what_replaced_a_memory_brings_it_back_and_undoing_that_takes_it_away(
    made: Made, order: tuple[int, ...]
) -> None:
    here = made()
    for day in order:
        say(here, day)
        here.sync()
    (now,) = here.memories()
    undo(here.store, lambda: of_memory(here.store, now.memory_id), meta={"undo_id": "undo-1"})
    assert titles(here) == ["SQLite"]
    undo(here.store, lambda: of_memory(here.store, now.memory_id), meta={"undo_id": "undo-2"})
    assert titles(here) == ["Postgres"]
    (old,) = here.memories("archived")
    assert (old.superseded_by, old.status) == (now.memory_id, "archived")


def test_undoing_a_job_brings_back_what_its_memory_replaced_later(made: Made) -> None:
    here = made()
    say(here, 2)
    job_id, _ = here.run("sync")
    say(here, 1)
    here.sync()
    assert titles(here) == ["Postgres"]
    undo(here.store, lambda: of_job(here.store, job_id), meta={"undo_id": "undo-1"})
    assert titles(here) == ["SQLite"]


def test_what_was_said_before_adds_its_proof_but_not_its_words(made: Made, server: ModelServer) -> None:
    here = made()
    say(here, 2)
    here.sync()
    (now,) = here.memories()

    def completing(request: dict[str, Any]) -> Step:
        step = replacing(request)
        calls = [("update_memory", {**args, "memory_id": now.memory_id}) for _, args in step.calls]
        return tools(*calls) if step.kind == "tools" else step

    server.answer = completing
    say(here, 1)
    here.sync()
    (after,) = load_memories(here.store, [now.memory_id])
    assert (after.title, after.body, len(after.quotes)) == (now.title, now.body, 2)
