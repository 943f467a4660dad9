"""Which freed stages a worker goes on with at once: short ones and those of its own queue, and never out of turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lerim_jobs.jobs.job import load
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import JobRequested, StageRequested
from lerim_jobs.machine import identity
from tests.here import PROJECT, Here
from workers import runner as running
from workers.stage import Outcome, StageContext


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    made = Here(tmp_path / "m")
    yield made
    made.close()


def ask(here: Here, kind: str, job_id: str, *, projects: list[str] | None = None, **params: object) -> None:
    event = JobRequested(kind, params, job_id, "test", identity.host_name(), "a" * 32, "b" * 16, 1)
    request_job(here.store, job_id, event, projects=projects or [])


def started(here: Here, job_id: str) -> list[str]:
    return [event.stage for event in here.events(job_id, "StageStarted")]


def test_one_hint_is_enough_for_a_question(here: Here) -> None:
    ask(here, "ask", "ask-1", question="Which database?", limit=5)
    here.runner.run_hint("ask-1", "answer")
    assert (started(here, "ask-1"), here.due) == (["answer", "finish"], [])
    assert load(here.store, "ask-1").status == "succeeded"


def test_a_stage_that_calls_models_waits_for_a_place_of_its_own_queue(here: Here) -> None:
    here.session("aaaaaaaa-0000-4000-8000-000000000001", ["We decided to use Postgres for billing."])
    ask(here, "sync", "sync-1")
    here.runner.run_hint("sync-1", "index")
    assert started(here, "sync-1") == ["index"]
    assert sorted(stage.partition(":")[0] for _, stage in here.due) == ["extract"]
    for job_id, stage in list(here.due):
        here.runner.run_hint(job_id, stage)
    (integrate,) = [stage for _, stage in here.due if stage.startswith("integrate")]
    assert integrate not in started(here, "sync-1")
    here.runner.run_hint("sync-1", integrate)
    assert [stage.partition(":")[0] for stage in started(here, "sync-1")[-3:]] == ["integrate", "publish", "finish"]


def test_a_worker_that_stops_goes_on_with_nothing(here: Here) -> None:
    ask(here, "ask", "ask-1", question="Which database?", limit=5)
    here.runner.stopping.set()
    here.runner.run_hint("ask-1", "answer")
    assert (started(here, "ask-1"), here.due) == (["answer"], [("ask-1", "finish")])


def test_a_stage_of_another_host_is_left_to_it(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = [StageRequested("publish:elsewhere", "host.b", {"project_id": "x"}, host="b")]
    monkeypatch.setattr(running, "load_stage", lambda stage: lambda ctx: Outcome({}, next_stages=plan))
    ask(here, "maintain", "maintain-1", projects=[PROJECT])
    here.runner.run_hint("maintain-1", f"curate:{PROJECT}")
    assert "publish:elsewhere" not in started(here, "maintain-1")
    assert ("maintain-1", "publish:elsewhere") in here.due


def test_who_waits_longer_in_a_lane_comes_first(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs clean up one project: the second job's stage, which has waited, is not overtaken by the first job's next."""

    def stage(name: str) -> StageRequested:
        return StageRequested(name, "agent", {"project_id": PROJECT}, lane=f"memory-{PROJECT}")

    def load_stage(name: str) -> object:
        def run(ctx: StageContext) -> Outcome:
            return Outcome({}, next_stages=[stage("curate:later")] if ctx.job_id == "first" else [])

        return run

    monkeypatch.setattr(running, "load_stage", load_stage)
    for job_id in ("first", "second"):
        ask(here, "maintain", job_id, projects=[PROJECT])
    here.runner.run_hint("first", f"curate:{PROJECT}")
    assert "curate:later" not in started(here, "first")
    assert ("second", f"curate:{PROJECT}") in here.due
