"""The embedded Redis, with real servers in folders of their own."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
import redis

from lerim_jobs.config import Queue, Settings
from lerim_jobs.errors import QueueUnavailable
from lerim_jobs.machine import embedded, identity, server
from lerim_jobs.machine.embedded import RedisAddress
from lerim_jobs.paths import Home
from tests.waiting import until

_ENSURE = """
import os, sys, redis
from pathlib import Path
from typing import Any
from lerim_jobs.config import Settings
from lerim_jobs.paths import Home
from lerim_jobs.machine import embedded
print("ready", flush=True)
sys.stdin.readline()
print(embedded.ensure(Home(Path(sys.argv[1])), Settings(), os.environ).started)
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    state = Home(tmp_path / "h")
    yield state
    embedded.stop(state, only_if_unused=False)


def start(home: Home, **options: Any) -> RedisAddress:
    return embedded.ensure(home, Settings(), dict(os.environ), **options)


def pid_of(home: Home) -> int:
    return int(msgspec.json.decode((home.run / "redis.json").read_bytes())["pid"])


def kill(home: Home) -> None:
    pid = pid_of(home)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not identity.started_at(pid), 5, what="the end of Redis")


@contextmanager
def client(address: RedisAddress) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(address.url, decode_responses=True) as connection:
        yield connection


def servers_in(folder: Path) -> list[int]:
    """Pids of processes that were started for the folder."""
    found = []
    for process in psutil.process_iter(["pid", "name", "cwd"]):
        if "redis" in (process.info["name"] or "") and (process.info["cwd"] or "").startswith(str(folder)):
            found.append(process.info["pid"])
    return found


def test_a_second_call_finds_the_server_of_the_first(home: Home) -> None:
    first, second = start(home), start(home)
    assert (first.embedded, first.started, second.started) == (True, True, False)
    assert first.url == second.url == embedded.address(home, Settings())


def test_processes_that_start_together_start_one_server(home: Home) -> None:
    command = [sys.executable, "-c", _ENSURE, str(home.root)]
    callers = [subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    # All wait at the same line first: imports take longer than starting a server.
    for caller in callers:
        assert caller.stdout
        assert caller.stdout.readline() == "ready\n"
    for caller in callers:
        assert caller.stdin
        caller.stdin.write("\n")
        caller.stdin.flush()
    answers = [caller.communicate(timeout=20)[0].strip() for caller in callers]
    assert sorted(answers) == ["False", "False", "False", "True"]
    assert servers_in(home.redis) == [pid_of(home)]


def test_a_killed_server_is_started_again_with_its_data(home: Home) -> None:
    address = start(home)
    with client(address) as connection:
        connection.set("kept", "yes")
    kill(home)
    again = start(home)
    assert again.started
    with client(again) as connection:
        assert connection.get("kept") == "yes"


def test_the_server_listens_on_a_private_socket_only(home: Home) -> None:
    address = start(home)
    assert home.redis.joinpath("redis.sock").stat().st_mode & 0o777 == 0o600
    assert psutil.Process(pid_of(home)).net_connections("tcp") == []
    with client(address) as connection:
        assert connection.config_get("append*")["appendonly"] == "yes"


def test_keys_of_the_environment_do_not_reach_the_server_on_the_path(home: Home, tmp_path: Path) -> None:
    real = server.binary(os.environ)
    script = tmp_path / "bin" / "redis-server"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nenv > {tmp_path}/seen\nexec {real} "$@"\n', "utf-8")
    script.chmod(0o755)
    path = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    embedded.ensure(home, Settings(), {"PATH": path, "OPENAI_API_KEY": "sk-secret"})
    seen = (tmp_path / "seen").read_text("utf-8")
    assert f"PATH={path}" in seen
    assert "sk-secret" not in seen


def test_an_odd_folder_name_is_no_problem(tmp_path: Path) -> None:
    home = Home(tmp_path / "50% of #1; a?b")
    address = start(home)
    try:
        with client(address) as connection:
            assert connection.ping()
    finally:
        assert embedded.stop(home, only_if_unused=False)


# --- whose server it is ---
@pytest.fixture
def stranger(home: Home, tmp_path: Path) -> Iterator[int]:
    """A server on the recorded socket whose data lies somewhere else."""
    start(home)
    kill(home)
    elsewhere = Home(tmp_path / "elsewhere").ensure()
    answer = server.launch(elsewhere, home.redis / "redis.sock", os.environ)
    assert answer
    yield answer.pid
    os.kill(answer.pid, signal.SIGKILL)
    until(lambda: not identity.started_at(answer.pid), 5, what="the end of the stranger")


def test_a_stranger_on_the_recorded_socket_is_refused(home: Home, stranger: int) -> None:
    with pytest.raises(QueueUnavailable, match="another Redis answers"):
        start(home)
    assert identity.started_at(stranger), "it is not ours to end"


def test_a_stranger_on_the_recorded_socket_is_not_stopped(home: Home, stranger: int) -> None:
    assert not embedded.stop(home, only_if_unused=False)
    assert identity.started_at(stranger)


def test_a_server_whose_starter_died_before_recording_it_is_found(home: Home) -> None:
    start(home)
    pid = pid_of(home)
    (home.run / "redis.json").unlink()
    assert not start(home).started
    assert pid_of(home) == pid


def test_an_unrecorded_server_is_stopped_too(home: Home) -> None:
    start(home)
    (home.run / "redis.json").unlink()
    assert embedded.stop(home, only_if_unused=False)
    assert servers_in(home.redis) == []


def test_a_hung_server_is_replaced(home: Home) -> None:
    start(home)
    hung = pid_of(home)
    os.kill(hung, signal.SIGSTOP)
    assert start(home, patience=embedded.Patience(answer_s=0.3, slow_s=0.3, stop_s=0.3)).started
    assert servers_in(home.redis) == [pid_of(home)] != [hung]


# --- data that Redis cannot load ---
def aof_of(home: Home) -> Path:
    return next(path for path in home.redis.rglob("*") if path.name.endswith((".incr.aof", "appendonly.aof")))


def test_a_cut_off_tail_does_not_stop_the_start(home: Home) -> None:
    with client(start(home)) as connection:
        connection.set("first", "1")
        connection.set("last", "2")
    kill(home)
    data = aof_of(home).read_bytes()
    aof_of(home).write_bytes(data[:-5])
    with client(start(home)) as connection:
        assert connection.keys() == ["first"]


def test_broken_data_is_put_aside_and_said(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    with client(start(home)) as connection:
        connection.set("lost", "1")
    kill(home)
    aof_of(home).write_bytes(b"this is no redis data\n" * 20)
    with caplog.at_level(logging.WARNING), client(start(home)) as connection:
        assert connection.keys() == []
    assert "could not load" in caplog.text
    assert list(home.redis.glob("*.broken-*"))


# --- stopping ---
def test_stop_leaves_neither_process_nor_socket_nor_record(home: Home) -> None:
    start(home)
    assert embedded.stop(home, only_if_unused=False)
    assert servers_in(home.redis) == []
    assert not [path for path in home.root.rglob("*") if path.name in ("redis.sock", "redis.json", "redis.pid")]
    assert not embedded.stop(home, only_if_unused=False)


def test_a_server_in_use_is_not_stopped_by_the_one_who_leaves(home: Home) -> None:
    start(home)
    with embedded.hold(home):
        assert not embedded.stop(home, only_if_unused=True)
        assert not start(home).started
    assert embedded.stop(home, only_if_unused=True)


def test_a_recycled_pid_is_never_ended(home: Home) -> None:
    start(home)
    record = msgspec.json.decode((home.run / "redis.json").read_bytes())
    kill(home)
    time.sleep(0.03)  # two ticks of the processes' clock: within one a recycled pid could not be told apart
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert identity.started_at(other.pid) != record["start"]
        (home.run / "redis.json").write_bytes(msgspec.json.encode({**record, "pid": other.pid}))
        assert start(home).started
        assert other.poll() is None
        other.communicate(b"\n")


# --- which server is used ---
def test_an_unreachable_url_is_named_without_its_password(home: Home) -> None:
    settings = Settings(queue=Queue(redis_url="redis://user:hunter2@127.0.0.1:1/0"))
    with pytest.raises(QueueUnavailable) as caught:
        embedded.ensure(home, settings, {})
    assert "hunter2" not in str(caught.value)
    assert "127.0.0.1:1/0': refused. Is it running?" in str(caught.value)
    assert not home.root.exists(), "a refused command writes nothing"


def test_something_that_is_no_url_is_said_so(home: Home) -> None:
    with pytest.raises(QueueUnavailable, match="'localhost' is not a Redis URL"):
        embedded.ensure(home, Settings(queue=Queue(redis_url="localhost")), {})


def test_a_configured_url_is_used_as_it_is(home: Home, tmp_path: Path) -> None:
    url = start(home).url
    other = Home(tmp_path / "other")
    assert embedded.ensure(other, Settings(queue=Queue(redis_url=url)), {}) == RedisAddress(url, embedded=False)
    assert not other.root.exists()


def test_without_any_server_the_way_out_is_named(home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(QueueUnavailable, match=r"install redis-server .* or set LERIM_REDIS_URL"):
        embedded.ensure(home, Settings(), {"PATH": str(tmp_path)})


def test_a_long_path_gets_a_private_socket_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    home = Home(tmp_path / ("long" * 30))
    socket = Path(start(home).url.removeprefix("unix://"))
    try:
        assert socket.parent.parent == tmp_path
        assert socket.parent.stat().st_mode & 0o777 == 0o700
    finally:
        assert embedded.stop(home, only_if_unused=True)
    assert not socket.parent.exists()
    socket.parent.mkdir(mode=0o755)
    with pytest.raises(QueueUnavailable, match="not a private folder"):
        start(home)
