"""The scheduler: fires are idempotent, aligned to UTC, and never pile up; the process stops at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from lerim_jobs import config
from lerim_jobs.jobs import claims, outcomes
from lerim_jobs.jobs.claims import Claim
from lerim_jobs.jobs.outcomes import End
from lerim_jobs.log.events import JobRequested, ProjectAdded
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine import embedded
from lerim_jobs.machine.identity import host_name
from lerim_jobs.machine.processes import schedulers_running
from lerim_jobs.paths import Home
from scheduler.app import Clockwork, cron, make_scheduler, scheduled_job_id
from tests.waiting import until

NOON = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "h").ensure()
    yield made
    embedded.stop(made, only_if_unused=False)


def clockwork(home: Home, **env: str) -> Clockwork:
    given = {"PATH": os.environ["PATH"], "LERIM_HOME": str(home.root), "LERIM_PROVIDER": "offline", **env}
    return Clockwork(given, config.load(given), home)


def add_project(home: Home) -> None:
    SqliteStore(home.log).append("project-p", [ProjectAdded("p", "shop", "/srv/shop", host_name())])


def requests(home: Home) -> list[JobRequested]:
    return [row.as_(JobRequested) for row in SqliteStore(home.log).read_all(types=["JobRequested"])]


def test_b7_two_schedulers_fire_once_for_the_same_time(home: Home) -> None:
    add_project(home)
    first, second = clockwork(home), clockwork(home, LERIM_TRACING="1")
    asked = [one.fire("sync", NOON) for one in (first, second, first)]
    assert [one.repeated for one in asked if one] == [False, True, True]
    assert len({one.job_id for one in asked if one}) == 1
    (request,) = requests(home)
    assert (request.requested_by, request.scope, len(request.trace_id)) == ("scheduler", "all", 32)


def test_a6_the_strictest_project_decides_about_the_content_of_scheduled_jobs(home: Home, tmp_path: Path) -> None:
    quiet = tmp_path / "quiet"
    (quiet / ".lerim").mkdir(parents=True)
    (quiet / ".lerim" / "config.toml").write_text("[tracing]\ninclude_content = false\nenabled = true\n")
    add_project(home)
    one = clockwork(home, LERIM_TRACING="1")
    one.fire("sync", NOON)
    SqliteStore(home.log).append("project-q", [ProjectAdded("q", "quiet", str(quiet), host_name())])
    one.fire("maintain", NOON)
    clockwork(home).fire("maintain", NOON + timedelta(hours=1))
    said = [(request.kind, request.sampled, request.include_content) for request in requests(home)]
    assert said == [("sync", True, True), ("maintain", True, False)]


def test_b7_a_scope_with_an_unfinished_job_is_not_asked_for_again(home: Home) -> None:
    add_project(home)
    one = clockwork(home)
    first = one.fire("sync", NOON)
    later = one.fire("sync", NOON + timedelta(minutes=10))
    assert first
    assert later
    assert (later.job_id, later.repeated) == (first.job_id, True)
    for stage in ("index", "finish"):
        held = claims.claim(one.store, first.job_id, stage, "w", alive=lambda owner: True, max_attempts=5)
        assert isinstance(held, Claim)
        outcomes.complete(one.store, held, output={}, end=End("succeeded", {}) if stage == "finish" else None)
    again = one.fire("sync", NOON + timedelta(minutes=20))
    assert again
    assert not again.repeated


def test_maintain_names_its_projects_and_carries_a_sampled_trace_when_asked(home: Home) -> None:
    add_project(home)
    clockwork(home, LERIM_TRACING="1").fire("maintain", NOON)
    (request,) = requests(home)
    assert (request.params, request.sampled) == ({"project_ids": ["p"]}, True)


def test_nothing_is_asked_for_without_projects_or_without_a_model(home: Home) -> None:
    assert clockwork(home).fire("sync", NOON) is None
    add_project(home)
    assert clockwork(home, LERIM_PROVIDER="").fire("sync", NOON) is None
    assert requests(home) == []


@pytest.mark.parametrize(("minutes", "per_day"), [(1, 1440), (10, 144), (60, 24), (240, 6), (1440, 1)])
def test_b7_fires_are_aligned_to_utc_and_daylight_saving_changes_nothing(minutes: int, per_day: int) -> None:
    trigger = cron(minutes)
    at = datetime(2026, 10, 31, 23, 59, 59, tzinfo=ZoneInfo("America/New_York")).astimezone(UTC)
    end = at + timedelta(days=2)
    fires: list[datetime] = []
    while (at := trigger.get_next_fire_time(None, at)) and at < end:
        fires.append(at)
        at += timedelta(seconds=1)
    assert len(fires) == 2 * per_day
    assert all(int(fire.timestamp()) % (minutes * 60) == 0 for fire in fires)


def test_b7_the_scheduler_coalesces_missed_fires(home: Home) -> None:
    scheduler = make_scheduler(clockwork(home))
    scheduler.start(paused=True)
    jobs = scheduler.get_jobs()
    scheduler.shutdown(wait=False)
    assert {(job.id, job.coalesce, job.max_instances) for job in jobs} == {("sync", True, 1), ("maintain", True, 1)}


def test_ids_are_those_of_the_scheduled_time() -> None:
    new_york = NOON.astimezone(ZoneInfo("America/New_York"))
    assert scheduled_job_id("sync", "all", NOON) == scheduled_job_id("sync", "all", new_york)
    assert scheduled_job_id("sync", "all", NOON) != scheduled_job_id("sync", "p", NOON)
    assert scheduled_job_id("sync", "all", NOON).startswith("sync-20261101-120000-")


def test_b6_the_process_stops_at_once_also_when_told_twice(home: Home) -> None:
    env = {"PATH": os.environ["PATH"], "LERIM_HOME": str(home.root), "LERIM_PROVIDER": "offline"}
    process = subprocess.Popen([sys.executable, "-m", "scheduler"], env=env, stderr=subprocess.PIPE)
    try:
        until(lambda: schedulers_running(home), 10, what="a scheduler")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(3) == 0
        assert schedulers_running(home) == []
    finally:
        process.kill()
        process.communicate()
