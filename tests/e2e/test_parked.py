"""A job over its cap rests: no attempt, no event, one park in its trace; a raised cap wakes it within seconds."""

from __future__ import annotations

import os
import time

from lerim_jobs.log.events import JobFinished
from tests.e2e.test_money import _PRICES, session_id
from tests.e2e.world import World
from tests.model_server import ModelServer
from tests.waiting import until

REST_S = float(os.environ.get("LERIM_TEST_PARKED_S", "10"))
"""Long enough for several sweeps; a minute shows it beyond doubt."""


def test_c5_a_job_over_its_cap_rests_and_wakes_when_the_cap_is_raised(world: World, server: ModelServer) -> None:
    config = world.home.config
    config.write_text(f"{config.read_text()}\n{_PRICES}\n[tracing]\nenabled = true\n[budget]\nper_job_usd = 0.001\n")
    for number in range(3):
        world.session(session_id(number), ["REMEMBER: one fact is kept."], day=number + 1)
    world.start("workers", "--slots", "4")
    until(lambda: world.json("status")[0]["workers"], 30, what="a worker")
    parked = world.sync(expect=6)
    job_id = parked["job_id"]
    before = world.events(job_id)
    time.sleep(REST_S)  # what is to be seen is that nothing happens
    assert world.events(job_id) == before
    assert server.requests == []

    config.write_text(config.read_text().replace("per_job_usd = 0.001", "per_job_usd = inf"))
    until(lambda: len(world.events(job_id)) > len(before), 20, what="an attempt after the raise")
    until(lambda: any(isinstance(row.event, JobFinished) for row in world.events(job_id)), 60, what="the job's end")
    spans = world.trace(job_id)
    parks = [one["attributes"]["lerim.stage"] for one in spans if one["attributes"].get("lerim.outcome") == "parked"]
    assert len(parks) == len(set(parks)) > 0  # once each, not once a sweep
