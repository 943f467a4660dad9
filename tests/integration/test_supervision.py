"""Workers and scheduler as processes: who runs, for how long, and that nothing stays. Small scripts stand in for both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from lerim_jobs.config import Settings
from lerim_jobs.errors import QueueUnavailable
from lerim_jobs.machine import embedded, supervision, whole_file
from lerim_jobs.machine.processes import register_worker, temporary_worker, workers_running
from lerim_jobs.paths import Home
from tests.half_written import half_written
from tests.waiting import until

_SETTINGS = Settings()
_MARK = "LERIM_TEST_MARK"

_SLEEPER = "import time; time.sleep(60)"
_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
)
_DYING = "import sys; sys.exit('no key for the model')"
# Registers like a worker child, and ends at SIGTERM, which it counts in a file of its own.
_WORKER = """
import os, signal, sys, time
from pathlib import Path
from lerim_jobs.paths import home
from lerim_jobs.machine import processes
state = home(os.environ)
def stop(*_):
    Path(state.run, "stopped").open("a").write(f"{os.getpid()}\\n")
    time.sleep(0.2)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
kept = processes.register_worker(state, queues=["ask"], tracing=False)
processes.watch_parent(os.environ)
time.sleep(60)
"""
# Like a dramatiq master: runs one child in a group of its own, passes SIGTERM on, and ends with the child. It takes a
# moment, so that a signal of its own and one from elsewhere do not melt into one.
_MASTER = """
import signal, subprocess, sys, time
def stop(*_):
    time.sleep(0.1)
    child.terminate()
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], start_new_session=True)
signal.signal(signal.SIGTERM, stop)
sys.exit(child.wait())
"""
_COMMAND = """
import os, sys, time
from lerim_jobs.config import Settings
from lerim_jobs.paths import home
from lerim_jobs.machine.processes import temporary_worker
with temporary_worker(home(os.environ), Settings(), os.environ, command=sys.argv[1:]):
    time.sleep(60)
"""


def python(code: str, *arguments: str) -> list[str]:
    lines = [code, *arguments]  # all on one line, as a settings file wants it
    return [sys.executable, "-c", *(f"exec({line!r})" if "\n" in line else line for line in lines)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    state = Home(tmp_path / "50% of #1 ;x").ensure()
    yield state
    for process in ours(state):
        process.kill()
    embedded.stop(state, only_if_unused=False)


@pytest.fixture
def env(home: Home) -> dict[str, str]:
    return {**os.environ, "LERIM_HOME": str(home.root), _MARK: f"{home.root} 100%", "OPENAI_API_KEY": "sk-secret"}


def ours(home: Home) -> list[psutil.Process]:
    """Everything that runs with this test's environment or in its folder, but for this process."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(_MARK, "").startswith(str(home.root)) or process.cwd().startswith(str(home.root)):
                found.append(process)
    return [process for process in found if process.pid != os.getpid()]


def names(home: Home) -> list[str]:
    found = []
    for process in ours(home):
        with suppress(psutil.Error):  # it ended meanwhile
            found.append(" ".join(process.cmdline()))
    return found


def up(home: Home, env: dict[str, str], worker: Sequence[str], **more: int) -> supervision.Supervision:
    """Returns when the programs run: a signal that meets supervisord's child before its exec is lost."""
    programs = {"workers": [*worker, "worker"], "scheduler": python(_SLEEPER, "scheduler")}
    now = supervision.up(home, _SETTINGS, env, programs=programs, **more)
    until(lambda: running(home, "scheduler") and running(home, "worker"), 5, what="the programs")
    return now


def running(home: Home, text: str) -> list[psutil.Process]:
    """Programs with the text among their arguments."""
    found = []
    for process in ours(home):
        with suppress(psutil.Error):
            command = process.cmdline()
            if command[:1] == [sys.executable] and text in command:
                found.append(process)
    return found


# --- who is running ---
def test_a_worker_is_listed_while_it_lives(home: Home, env: dict[str, str]) -> None:
    with subprocess.Popen(python(_WORKER), env=env, cwd=home.root) as worker:
        (info,) = until(lambda: workers_running(home), 10, what="the registration")
        assert (info.pid, info.queues, info.temporary) == (worker.pid, ["ask"], False)
        worker.kill()
        worker.wait()
        assert workers_running(home) == []
    assert list((home.run / "workers").iterdir()) == [], "the next reader removes the record of a dead process"


def test_two_registrations_of_one_pid_do_not_hide_each_other(home: Home) -> None:
    both = [register_worker(home, queues=[], tracing=False) for _ in range(2)]
    assert len(workers_running(home)) == 2
    for one in both:
        one.close()
    assert workers_running(home) == []


def test_a_registered_worker_keeps_redis_running(home: Home, env: dict[str, str]) -> None:
    embedded.ensure(home, _SETTINGS, env)
    registration = register_worker(home, queues=[], tracing=False)
    assert not embedded.stop(home, only_if_unused=True)
    registration.close()
    assert embedded.stop(home, only_if_unused=True)


# --- a worker for the length of one command ---
def test_b2_a_temporary_worker_lives_as_long_as_the_block(home: Home, env: dict[str, str]) -> None:
    with temporary_worker(home, _SETTINGS, env, command=python(_MASTER, _WORKER)) as worker:
        (info,) = workers_running(home)
        assert info.temporary
        assert not worker.died
        assert psutil.Process(info.pid).cwd() == str(home.root), "a project's own `workers` package must not be run"
    assert names(home) == []
    assert (home.run / "stopped").read_text("ascii") == f"{info.pid}\n", "one SIGTERM, passed on"


def test_a_worker_of_another_command_does_not_count_as_ready(home: Home, env: dict[str, str]) -> None:
    with (
        temporary_worker(home, _SETTINGS, env, command=python(_WORKER)),
        pytest.raises(QueueUnavailable),
        temporary_worker(home, _SETTINGS, env, command=python(_SLEEPER), boot_s=0.3),
    ):
        pass


def test_a_worker_that_dies_at_once_is_reported_with_its_last_words(home: Home, env: dict[str, str]) -> None:
    began = time.monotonic()
    with (
        pytest.raises(QueueUnavailable, match="no key for the model"),
        temporary_worker(home, _SETTINGS, env, command=python(_DYING)),
    ):
        pass
    assert time.monotonic() - began < 45  # half of what a start may take


def test_a_stubborn_worker_is_killed_in_bounded_time(home: Home, env: dict[str, str]) -> None:
    deaf = _WORKER.replace("signal.signal(signal.SIGTERM, stop)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    with temporary_worker(home, _SETTINGS, env, command=python(_MASTER, deaf), stop_s=0.3):
        assert len(names(home)) == 2
    assert names(home) == []


def test_a_child_of_a_dead_master_is_ended_too(home: Home, env: dict[str, str]) -> None:
    deaf = _WORKER.replace("processes.watch_parent(os.environ)", "")
    with temporary_worker(home, _SETTINGS, env, command=python(_MASTER, deaf)) as worker:
        (child,) = workers_running(home)
        os.kill(child.parent, signal.SIGKILL)
        until(lambda: worker.died, 5)
    assert names(home) == []


def test_a_restarted_worker_takes_over_from_a_dead_one(home: Home, env: dict[str, str]) -> None:
    with temporary_worker(home, _SETTINGS, env, command=python(_WORKER)) as worker:
        os.kill(workers_running(home)[0].pid, signal.SIGKILL)
        until(lambda: worker.died, 5)
        worker.restart()
        worker.wait_ready()
        assert len(workers_running(home)) == 1
    assert names(home) == []


def test_b2_b6_the_worker_of_a_killed_command_ends_by_itself(home: Home, env: dict[str, str]) -> None:
    command = subprocess.Popen(python(_COMMAND, *python(_MASTER, _WORKER)), env=env, cwd=home.root)
    (info,) = until(lambda: workers_running(home), 10, what="the registration")
    command.kill()
    command.wait()
    until(lambda: names(home) == [], 5, what="the end of the worker")
    assert (home.run / "stopped").read_text("ascii") == f"{info.pid}\n", "asked once"


# --- in the background ---
def test_up_starts_everything_and_down_leaves_nothing(home: Home, env: dict[str, str]) -> None:
    now = up(home, env, python(_WORKER), workers=2)
    assert (now.running, now.already) == (True, False)
    until(lambda: len(workers_running(home)) == 2, 10, what="two workers")
    assert running(home, "scheduler")
    report = supervision.down(home)
    assert report.redis
    assert (now.pid in report.stopped, report.killed) == (True, [])
    assert names(home) == []
    left = {path.name for path in home.run.iterdir() if path.is_file() and path.name != "stopped"}
    assert left <= {"redis.lock", "redis.users", "supervisord.lock"}


def test_down_twice_and_down_without_up_are_fine(home: Home, tmp_path: Path) -> None:
    nothing = supervision.DownReport()
    assert [supervision.down(home), supervision.down(home), supervision.down(Home(tmp_path / "no"))] == [nothing] * 3
    assert not (tmp_path / "no").exists()


def test_down_removes_what_a_killed_process_had_half_written(home: Home) -> None:
    (home.run / "worker").mkdir(parents=True)
    killed = half_written(home.run / "worker" / "laptop-1-abc.json")
    mine = whole_file.beside(home.run / "redis.json")
    mine.touch()
    supervision.down(home)
    assert (killed.exists(), mine.exists()) == (False, True)


def test_up_twice_says_so_and_starts_nothing(home: Home, env: dict[str, str]) -> None:
    first = up(home, env, python(_SLEEPER))
    second = up(home, env, python(_SLEEPER))
    assert (second.already, second.pid) == (True, first.pid)
    until(lambda: len(running(home, "worker")) == 1, 5, what="one worker")


def test_two_ups_at_once_start_one_supervisor(home: Home, env: dict[str, str]) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: up(home, env, python(_SLEEPER)), range(2)))
    assert both[0].pid == both[1].pid
    assert len([line for line in names(home) if "supervisor.supervisord" in line]) == 1


def test_a_dead_worker_is_started_again(home: Home, env: dict[str, str]) -> None:
    up(home, env, python(_SLEEPER))
    (worker,) = until(lambda: running(home, "worker"), 5)
    worker.kill()
    again = until(lambda: [one for one in running(home, "worker") if one.pid != worker.pid], 10, what="a new worker")
    assert len(again) == 1


def test_b6_down_also_ends_what_a_killed_supervisor_left(home: Home, env: dict[str, str]) -> None:
    pid = up(home, env, python(_SLEEPER)).pid
    until(lambda: running(home, "worker"), 5)
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not supervision.state(home).running, 5)
    assert running(home, "worker"), "it does not watch its parent"
    supervision.down(home)
    assert names(home) == []


def test_down_asks_each_family_once(home: Home, env: dict[str, str]) -> None:
    unwatching = _WORKER.replace("processes.watch_parent(os.environ)", "")
    pid = up(home, env, python(_MASTER, unwatching)).pid
    (info,) = until(lambda: workers_running(home), 10)
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not supervision.state(home).running, 5)
    assert supervision.down(home).killed == []
    assert (home.run / "stopped").read_text("ascii") == f"{info.pid}\n", "a second SIGTERM would cut its work short"


def test_workers_of_a_killed_supervisor_end_by_themselves(home: Home, env: dict[str, str]) -> None:
    pid = up(home, env, python(_MASTER, _WORKER)).pid
    (info,) = until(lambda: workers_running(home), 10)
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: workers_running(home) == [], 5, what="the end of the worker")
    assert (home.run / "stopped").read_text("ascii") == f"{info.pid}\n", "asked once"


def test_up_ends_what_a_killed_supervisor_left(home: Home, env: dict[str, str]) -> None:
    pid = up(home, env, python(_SLEEPER)).pid
    (old,) = until(lambda: running(home, "worker"), 5)
    assert pid
    os.kill(pid, signal.SIGKILL)
    until(lambda: not supervision.state(home).running, 5)
    assert not up(home, env, python(_SLEEPER)).already
    (new,) = until(lambda: running(home, "worker"), 5)
    assert new.pid != old.pid


def test_b6_down_is_bounded_when_programs_do_not_listen(home: Home, env: dict[str, str]) -> None:
    up(home, env, python(_STUBBORN))
    until(lambda: "deaf" in (home.logs / "workers-0.log").read_text("utf-8"), 5)
    (worker,) = running(home, "worker")
    assert worker.pid in supervision.down(home, limit_s=0.3, leftovers_s=0.3).killed
    assert names(home) == []


def test_down_leaves_a_running_command_its_worker_and_redis(home: Home, env: dict[str, str]) -> None:
    up(home, env, python(_SLEEPER))
    with temporary_worker(home, _SETTINGS, env, command=python(_WORKER)) as worker:
        assert not supervision.down(home).redis
        assert not worker.died


def test_down_does_not_touch_another_folder(home: Home, env: dict[str, str], tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    up(home, env, python(_SLEEPER))
    supervision.up(other, _SETTINGS, env, programs={"workers": python(_SLEEPER, "elsewhere")})
    try:
        supervision.down(home)
        assert supervision.state(other).running
    finally:
        for process in ours(other):
            process.kill()
        embedded.stop(other, only_if_unused=False)


def test_programs_get_the_environment_and_the_settings_file_no_keys(home: Home, env: dict[str, str]) -> None:
    up(home, env, python(_SLEEPER, "a 50% ;b #c 'd'"))
    (worker,) = running(home, "a 50% ;b #c 'd'")
    assert worker.environ()[_MARK].endswith(" 100%")
    assert worker.environ()["OPENAI_API_KEY"] == "sk-secret"
    config = home.run / "supervisord.conf"
    assert "sk-secret" not in config.read_text("utf-8")
    assert config.stat().st_mode & 0o777 == 0o600
    assert not psutil.Process(supervision.state(home).pid).net_connections("tcp")


def test_state_is_quick(home: Home, env: dict[str, str]) -> None:
    up(home, env, python(_SLEEPER))
    took_s = []
    for _ in range(10):
        began = time.perf_counter()
        assert supervision.state(home).running
        took_s.append(time.perf_counter() - began)
    assert min(took_s) < 0.05
