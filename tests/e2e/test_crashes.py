"""Killing what runs: workers, Redis with its data, the whole Procfile. Everything still ends once, in one trace."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec
import psutil
import pytest

from lerim_jobs import faults
from lerim_jobs.log.events import JobFinished, SessionIndexed, StageStarted
from lerim_jobs.log.sqlite import SqliteStore
from tests.e2e.traces import whole_trace
from tests.e2e.world import World
from tests.held import Held
from tests.model_server import ModelServer
from tests.waiting import until

SESSION = "aaaaaaaa-0000-4000-8000-000000000001"
SECOND = "aaaaaaaa-0000-4000-8000-000000000002"
LONG = [f"REMEMBER: fact {n} is kept. {'Some words about the shop. ' * 30}" for n in range(12)]
REPOSITORY = Path(__file__).resolve().parents[2]


def enqueue(world: World, *arguments: str) -> str:
    job_id: str = world.json("sync", "--window", "all", "--no-wait", *arguments)[0]["job_id"]
    return job_id


def owner_pid(world: World, job_id: str, family: str) -> int:
    """The process that runs a stage of the family right now, 0 for none."""
    settled = {
        (getattr(row.event, "stage", ""), getattr(row.event, "attempt", 0))
        for row in world.events(job_id)
        if row.type in ("StageCompleted", "StageFailed")
    }
    for row in world.events(job_id):
        event = row.event
        if isinstance(event, StageStarted) and event.stage.startswith(family):
            pid = int(event.worker.split("/")[1])
            if (event.stage, event.attempt) not in settled and psutil.pid_exists(pid):
                return pid
    return 0


def ended(world: World, job_id: str) -> str:
    """How the job ended, empty while it goes on."""
    return next((row.event.status for row in world.events(job_id) if isinstance(row.event, JobFinished)), "")


def kill_during(world: World, job_id: str, family: str) -> None:
    pid = until(lambda: owner_pid(world, job_id, family), 30, what=f"a running {family}")
    os.kill(pid, signal.SIGKILL)


def closed(world: World, job_id: str) -> bool:
    return any(row.type == "TraceClosed" for row in world.events(job_id))


def test_b3_workers_killed_mid_extract_and_mid_integrate_lose_and_double_nothing(
    world: World, server: ModelServer
) -> None:
    world.configure(window=900)
    world.session(SESSION, LONG, day=1)
    world.session(SECOND, ["REMEMBER: carts live in Redis."], day=2)
    server.answer = windows = Held(only=lambda request: request["model"] == "extract-model")
    with world.workers(3, slots=2):
        job_id = enqueue(world)
        kill_during(world, job_id, "extract")
        server.answer = leads = Held(only=lambda request: request["model"] == "lead-model")
        windows.release()
        kill_during(world, job_id, "integrate")
        leads.release()
        assert until(lambda: ended(world, job_id), 60, what="the job's end") == "succeeded"
        until(lambda: closed(world, job_id), 10, what="the trace's end")
    expected = sorted([*(f"fact {n} is kept" for n in range(12)), "carts live in Redis"])
    assert sorted(one["title"] for one in world.memories()) == expected
    spans = whole_trace(world, job_id)
    assert [span.status for span in spans if span.attributes.get("lerim.outcome") == "worker_lost"].count("error") >= 2
    completed = [getattr(row.event, "stage", "") for row in world.events(job_id) if row.type == "StageCompleted"]
    assert len(completed) == len(set(completed))
    # Paid once: only calls that were in flight in the two killed processes may have been made again.
    calls = [row for row in world.events(job_id) if row.type == "ModelCalled"]
    assert len(calls) <= len(server.requests) <= len(calls) + 4


def test_b3_a_worker_killed_in_the_middle_of_a_scan_repeats_one_chunk(world: World, server: ModelServer) -> None:
    """Killed right before its first chunk is kept, then right after: three attempts, each file read into the log once."""
    for n in range(450):
        world.session(f"bbbbbbbb-0000-4000-8000-{n:012d}", [f"Sentence {n}."])
    world.session(SESSION, ["REMEMBER: carts live in Redis."], day=2)
    folder = world.root / "faults"
    folder.mkdir()
    world.extra_env[faults.VARIABLE] = str(folder)
    for point in ("before_checkpoint", "after_checkpoint"):
        (folder / point).touch()
    with world.workers(3, slots=1):
        job_id = enqueue(world, "--run-id", SESSION)
        assert until(lambda: ended(world, job_id), 90, what="the job's end") == "succeeded"
        until(lambda: closed(world, job_id), 10, what="the trace's end")
    assert list(folder.iterdir()) == []
    whole_trace(world, job_id)
    done = world.json("jobs", "watch", job_id)[-1]
    counts = {"found": 451, "indexed": 451, "unchanged": 0, "skipped": 0, "quarantined": 0}
    assert (done["sessions"], done["memories"]["added"]) == (counts, 1)
    store = SqliteStore(world.home.log)
    rows = store.read_all(0, 10_000, ("SessionIndexed",))
    store.close()
    assert len({row.as_(SessionIndexed).path for row in rows}) == len(rows) == 451
    assert Counter(row.meta["attempt"] for row in rows) == {2: 200, 3: 251}


def test_b3_redis_killed_with_its_data_while_stages_are_queued(world: World, server: ModelServer) -> None:
    world.configure(window=900)
    world.session(SESSION, LONG)
    server.answer = held = Held(only=lambda request: request["model"] == "extract-model")
    with world.workers(1, slots=1):
        job_id = enqueue(world)
        until(lambda: held.waiting, 30, what="a running extract")
        record = msgspec.json.decode((world.home.run / "redis.json").read_bytes())
        os.kill(record["pid"], signal.SIGKILL)
        for path in world.home.redis.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        held.release()
        assert until(lambda: ended(world, job_id), 60, what="the job's end") == "succeeded"
        until(lambda: closed(world, job_id), 10, what="the trace's end")
    assert len(world.memories()) == 12
    resent = [span for span in whole_trace(world, job_id) if span.name == "hint sent again"]
    assert {span.attributes["lerim.reason"] for span in resent} == {"nobody took it"}


@pytest.mark.slow
def test_b1_b6_honcho_stops_in_time_with_a_stage_in_flight_and_nothing_is_lost(
    world: World, server: ModelServer
) -> None:
    world.session(SESSION, ["REMEMBER: tabs not spaces."])
    server.delay_s = 60.0
    honcho = subprocess.Popen(
        [Path(sys.executable).with_name("honcho"), "start"],
        env=world.env | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    world.processes.append(honcho)
    until(lambda: (now := world.json("status")[0])["workers"] and now["scheduler"], 30, what="workers and scheduler")
    job_id = enqueue(world)
    until(lambda: owner_pid(world, job_id, "extract"), 30, what="a running extract")
    os.killpg(honcho.pid, signal.SIGTERM)
    time.sleep(0.3)  # as people press Ctrl-C again, whatever happens meanwhile
    os.kill(honcho.pid, signal.SIGTERM)
    honcho.wait(30)  # its model would have answered after 60
    until(lambda: not [one for one in world.ours() if "redis-server" not in one], 15, what=f"an end {world.ours()}")
    assert ended(world, job_id) == ""
    server.reset()
    with world.workers(1):
        assert until(lambda: ended(world, job_id), 30, what="the job's end") == "succeeded"
        until(lambda: closed(world, job_id), 10, what="the trace's end")
    assert [one["title"] for one in world.memories()] == ["tabs not spaces"]
    whole_trace(world, job_id)


@pytest.mark.slow
def test_b6_up_restarts_a_killed_worker_and_down_leaves_nothing(world: World, server: ModelServer) -> None:
    world.session(SESSION, ["REMEMBER: tabs not spaces."])
    (up,) = world.json("up")
    assert (len(up["workers"]), len(up["scheduler"]), up["already"]) == (1, 1, False)
    assert world.json("up")[0]["already"] is True
    os.kill(up["workers"][0]["pid"], signal.SIGKILL)
    until(
        lambda: [one for one in world.json("status")[0]["workers"] if one["pid"] != up["workers"][0]["pid"]],
        30,
        what="another worker",
    )
    assert world.sync()["memories"]["added"] == 1
    (report,) = world.json("down")
    assert (report["killed"], report["redis"]) == ([], True)
    until(lambda: not world.ours(), 5, what=f"an end of all processes {world.ours()}")
    assert [path.name for path in world.home.run.rglob("*") if path.suffix in (".sock", ".pid")] == []


@pytest.mark.slow
def test_b2_a_command_restarts_its_own_worker_when_that_dies(world: World, server: ModelServer) -> None:
    world.session(SESSION, ["REMEMBER: tabs not spaces."])
    server.answer = held = Held(only=lambda request: request["model"] == "extract-model")
    command = [sys.executable, "-m", "lerim_jobs.cli", "sync", "--window", "all", "--json"]
    running = subprocess.Popen(command, env=world.env, cwd=world.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    workers = until(lambda: world.json("status")[0]["workers"], 30, what="a worker")
    job_id = until(lambda: world.json("jobs", "list"), 10, what="a job")[0]["job_id"]
    kill_during(world, job_id, "extract")
    held.release()
    out, err = running.communicate(timeout=60)
    assert running.returncode == 0, err
    assert b"starting another one" in err
    assert msgspec.json.decode(out.splitlines()[-1])["memories"]["added"] == 1
    assert not psutil.pid_exists(workers[0]["pid"])
    whole_trace(world, job_id)
    until(lambda: not world.ours(), 10, what=f"an end of all processes {world.ours()}")
