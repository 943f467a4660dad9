"""The file lock around write transactions."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.log.events import TraceClosed
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.write_lock import WriteLock
from tests.waiting import until

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")


def try_to_hold(lock: WriteLock, *, limit_s: float) -> BaseException | None:
    """What trying to hold the lock raised; a lock that waits for ever fails the test instead of hanging it."""
    ended: list[BaseException | None] = []

    def hold() -> None:
        try:
            with lock.held():
                ended.append(None)
        except StoreUnavailable as exc:
            ended.append(exc)

    waiting = threading.Thread(target=hold, daemon=True)
    waiting.start()
    waiting.join(limit_s)
    assert ended, f"still waiting for the lock after {limit_s:g} s"
    return ended[0]


def descriptors(path: Path) -> int:
    """How many of this process's open files are this one."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found += os.readlink(link) == str(path)
    return found


def test_nobody_waits_for_ever_and_a_late_lock_is_passed_on(tmp_path: Path) -> None:
    stopped, other, patient = (WriteLock(tmp_path / "log", limit_s=limit_s) for limit_s in (60, 0.1, 5))
    with stopped.held():
        for _ in range(2):
            assert "locked for 0.1 s" in str(try_to_hold(other, limit_s=5))
    assert try_to_hold(patient, limit_s=5) is None
    assert try_to_hold(other, limit_s=5) is None
    for lock in (stopped, other, patient):
        lock.close()


@needs_proc
def test_a_handle_is_given_back_once_and_those_left_waiting_are_too(tmp_path: Path) -> None:
    stopped, other = WriteLock(tmp_path / "log"), WriteLock(tmp_path / "log", limit_s=0.05)
    with stopped.held():
        assert try_to_hold(other, limit_s=5)
    until(lambda: descriptors(tmp_path / "log.lock") == 2, 5, what="the end of the handle that was left waiting")
    other.close()
    other.close()
    del stopped
    assert descriptors(tmp_path / "log.lock") == 0


@needs_proc
def test_threads_that_wrote_and_ended_leave_no_open_lock_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "log.sqlite3")
    for number in range(100):
        thread = threading.Thread(target=store.append, args=(f"job-{number}", [TraceClosed(spans=1)]))
        thread.start()
        thread.join(30)
    assert store.position() == 100
    assert descriptors(tmp_path / "log.sqlite3.lock") == 1
    store.close()
    assert descriptors(tmp_path / "log.sqlite3.lock") == 0


def test_writers_take_turns(tmp_path: Path) -> None:
    inside, most, turns = 0, 0, 0

    def write() -> None:
        nonlocal inside, most, turns
        lock = WriteLock(tmp_path / "log")
        for _ in range(50):
            with lock.held():
                inside += 1
                most, turns = max(most, inside), turns + 1
                time.sleep(0.0002)
                inside -= 1
        lock.close()

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (most, turns) == (1, 300)
