"""B6, B1: starting, killing and stopping, again and again, a model call in flight each time: nothing of ours is left.

`make cycles` runs `LERIM_TEST_CYCLES=100` of them. Three run otherwise, other ones each day: every way to stop within three
days. `LERIM_TEST_FIRST` is the number of the first one; a failure names it.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path

import msgspec
import psutil
import pytest

from lerim_jobs.jobs.cancelling import cancel
from lerim_jobs.log.events import StageStarted
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine.processes import schedulers_running, workers_running
from tests.e2e.test_crashes import REPOSITORY, enqueue, owner_pid
from tests.e2e.world import Running, World
from tests.model_server import ModelServer
from tests.waiting import until

CYCLES = int(os.environ.get("LERIM_TEST_CYCLES", "3"))
FIRST = int(os.environ.get("LERIM_TEST_FIRST", date.today().toordinal() * CYCLES))
STOP_S = 20.0


@pytest.mark.slow
def test_b6_start_kill_and_stop_cycles_leave_nothing_behind(world: World, server: ModelServer) -> None:
    ways: list[Callable[[World, ModelServer], None]] = [
        terminal_interrupts_twice,
        honcho_terminated_twice,
        up_and_down,
        up_with_a_killed_worker,
        command_interrupted,
        master_killed,
        supervisor_killed,
        everything_killed,
    ]
    for number in range(CYCLES):
        way = ways[(FIRST + number) % len(ways)]
        print(f"LERIM_TEST_FIRST={FIRST + number}: {way.__name__}")
        server.delay_s = 60.0
        world.session(
            f"eeeeeeee-0000-4000-8000-{number:012d}", [f"REMEMBER: fact {number} is kept."], day=1 + number % 28
        )
        way(world, server)
        world.lerim("down")
        assert leftovers(world) == [], way.__name__
        forget_jobs(world)
    server.reset()
    done = world.sync("--max-sessions", str(CYCLES), timeout_s=300)
    assert (done["status"], done["memories"]["added"]) == ("succeeded", CYCLES)
    assert leftovers(world) == []


def terminal_interrupts_twice(world: World, server: ModelServer) -> None:
    """Ctrl-C reaches the whole group; people press it again."""
    worker = world.start("workers", "--slots", "2")
    in_flight(world, server)
    stop_within(worker, lambda: twice(lambda: os.killpg(worker.pid, signal.SIGINT)))
    assert handed_back(world)


def honcho_terminated_twice(world: World, server: ModelServer) -> None:
    """B1: one command runs everything, as many workers as asked for."""
    honcho = subprocess.Popen(
        [Path(sys.executable).with_name("honcho"), "start", "-c", "workers=2,scheduler=1"],
        env=world.env | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    world.processes.append(honcho)
    until(lambda: len(workers_running(world.home)) == 2 and schedulers_running(world.home), 90, what="everything")
    in_flight(world, server)
    stop_within(honcho, lambda: twice(lambda: os.killpg(honcho.pid, signal.SIGTERM)))
    until(lambda: not workers_running(world.home) and not schedulers_running(world.home), STOP_S, what="an end")
    assert handed_back(world)


def up_and_down(world: World, server: ModelServer) -> None:
    world.lerim("up")
    in_flight(world, server)
    begin = time.monotonic()
    assert world.json("down")[0]["killed"] == []
    assert time.monotonic() - begin < STOP_S
    assert handed_back(world)


def up_with_a_killed_worker(world: World, server: ModelServer) -> None:
    """Taking over on the same host is immediate: no lease has to run out."""
    world.lerim("up")
    job_id = in_flight(world, server)
    first = until(lambda: owner_pid(world, job_id, "extract"), 30, what="who runs it")
    os.kill(first, signal.SIGKILL)
    # Other stages of the job may run elsewhere all the while: what counts is that this one's was taken over.
    lost = until(lambda: taken_over(world, job_id), 25, what="another worker")
    # Who takes over before the dead one's master has looked cannot know how it ended.
    assert set(lost) <= {"killed by SIGKILL", "ended without a word"}


def taken_over(world: World, job_id: str) -> list[str]:
    """What is said of the ends of workers whose stages others have begun again."""
    return [row.event.lost for row in world.events(job_id) if isinstance(row.event, StageStarted) and row.event.lost]


def command_interrupted(world: World, server: ModelServer) -> None:
    """Ctrl-C in a command that started a worker of its own: it stops that worker and says how it ended."""
    asked = server.asked("extract-model")
    command = [sys.executable, "-m", "lerim_jobs.cli", "sync", "--window", "all", "--yes"]
    running = subprocess.Popen(
        command, env=world.env, cwd=world.root, stderr=subprocess.DEVNULL, start_new_session=True
    )
    world.processes.append(running)
    until(lambda: server.asked("extract-model") > asked, 60, what="a model call")
    stop_within(running, lambda: os.killpg(running.pid, signal.SIGINT))
    assert running.returncode == 130
    assert handed_back(world)


def master_killed(world: World, server: ModelServer) -> None:
    """Its child is alone then, and ends by itself."""
    worker = world.start("workers", "--slots", "2")
    in_flight(world, server)
    stop_within(worker, worker.kill)
    until(lambda: not workers_running(world.home), STOP_S, what="an end of the child")


def supervisor_killed(world: World, server: ModelServer) -> None:
    world.lerim("up")
    in_flight(world, server)
    pid = int((world.home.run / "supervisord.pid").read_text())
    os.kill(pid, signal.SIGKILL)


def everything_killed(world: World, server: ModelServer) -> None:
    """As a power cut, without the dark."""
    world.lerim("up")
    in_flight(world, server)
    pid = int((world.home.run / "supervisord.pid").read_text())
    redis = msgspec.json.decode((world.home.run / "redis.json").read_bytes())["pid"]
    killed = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True), psutil.Process(redis)]
    for process in killed:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(killed, timeout=10)


def in_flight(world: World, server: ModelServer) -> str:
    """Ask for a sync and wait until its model is being called."""
    until(lambda: workers_running(world.home), 90, what="a worker")
    asked = server.asked("extract-model")
    # One session: what earlier cycles left waiting would fill every slot with calls that never end.
    job_id = enqueue(world, "--max-sessions", "1")
    until(lambda: server.asked("extract-model") > asked, 60, what="a model call")
    return job_id


def twice(act: Callable[[], None]) -> None:
    act()
    time.sleep(0.2)  # as people press a key again, whatever happens meanwhile
    with suppress(ProcessLookupError):
        act()


def stop_within(process: Running, stop: Callable[[], object]) -> None:
    stop()
    process.wait(STOP_S)


def handed_back(world: World) -> bool:
    """Whether nothing runs any more in the log: claims were released, not left to their leases."""
    store = SqliteStore(world.home.log)
    try:
        return not store.running_stages()
    finally:
        store.close()


def forget_jobs(world: World) -> None:
    """Lost attempts are strikes, and each cycle is to begin afresh."""
    store = SqliteStore(world.home.log)
    try:
        for job_id in store.open_jobs():
            cancel(store, job_id)
    finally:
        store.close()


def leftovers(world: World) -> list[str]:
    """Processes, sockets, records, temporary files and locks of ours that are still there."""
    with suppress(AssertionError):
        until(lambda: not world.ours(), 10)
    workers_running(world.home), schedulers_running(world.home)
    kept = {".lock", ".users", ".conf"}
    left = world.ours()
    left += [str(path) for path in world.home.run.rglob("*") if path.is_file() and path.suffix not in kept]
    left += [
        str(path) for path in world.home.root.rglob("*") if path.is_socket() or path.suffix in (".tmp", ".new", ".pid")
    ]
    left += [
        f"locked: {path}"
        for path in (*world.home.run.rglob("*.lock"), Path(f"{world.home.log}.lock"))
        if is_locked(path)
    ]
    return left


def is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
