"""A program that asks without a subprocess: real Redis, real workers, real answers."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from lerim_jobs import api
from lerim_jobs.errors import WaitTimeout
from lerim_jobs.machine.processes import workers_running
from tests.e2e.world import World
from tests.waiting import until

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "api.md"
SAYS = ["We decided to use Postgres instead of MySQL for the orders database."]
QUESTION = "Which database do we use for orders?"


@pytest.fixture
def shop(offline: World, ids: list[str]) -> World:
    """A machine with one project and one session."""
    offline.lerim("project", "add", str(offline.project))
    offline.session(ids[0], SAYS)
    return offline


def opened(world: World) -> api.Lerim:
    return api.open(env=world.env, here=world.project)


def test_a_program_asks_goes_on_and_follows_its_question_to_the_answer(shop: World) -> None:
    steps: list[api.Progress] = []
    with shop.workers(1), opened(shop) as lerim:
        synced = lerim.sync(window="all", on_progress=steps.append)
        assert (synced.status, synced.memories["added"], synced.sessions["indexed"]) == ("succeeded", 1, 1)
        assert "Index sessions" in steps[0].text
        assert (steps[0].event, steps[0].stage) == ("StageCompleted", "index")

        asked = lerim.ask(QUESTION, wait=False)
        assert (asked.kind, asked.waits_for) == ("ask", None)
        assert [step.stage for step in lerim.follow(asked.job_id)] == ["answer", "finish"]
        answered = lerim.job(asked.job_id)
        (cited,) = answered.citations
        assert answered.answer
        assert "Postgres" in answered.answer
        assert lerim.show(cited).quote == SAYS[0]
        assert shop.events(asked.job_id)[0].event.requested_by == "api"  # type: ignore[union-attr]


def test_b2_where_no_worker_runs_the_job_says_so_and_following_it_brings_one(
    shop: World, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(shop) as lerim, caplog.at_level(logging.WARNING, "lerim_jobs.api"):
        asked = lerim.ask(QUESTION, wait=False)
        assert asked.waits_for
        assert "lerim up" in asked.waits_for
        assert not shop.ours()
        with pytest.raises(WaitTimeout) as stopped:
            list(lerim.follow(asked.job_id, worker=False, timeout_s=0.1))
        assert stopped.value.job_id == asked.job_id
        assert not caplog.records

        assert list(lerim.follow(asked.job_id, timeout_s=60))
        assert [record.name for record in caplog.records] == ["lerim_jobs.api"]
        assert lerim.job(asked.job_id).status == "succeeded"
        assert not workers_running(shop.home)
    until(lambda: not shop.ours(), 10, what="an end of the worker and of Redis")


def test_every_example_of_the_page_runs(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in shop.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(shop.project)
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(examples) == 3
    with shop.workers(1):
        shop.sync()
        for example in examples:
            exec(compile(example, str(PAGE), "exec"), {})
