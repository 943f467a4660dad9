"""The file lock around write transactions."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.log.write_lock import WriteLock


def test_nobody_waits_for_ever_and_a_late_lock_is_passed_on(tmp_path: Path) -> None:
    stopped, other = WriteLock(tmp_path / "log"), WriteLock(tmp_path / "log", limit_s=0.2)
    with stopped.held():
        with pytest.raises(StoreUnavailable, match=r"locked for 0\.2 s"), other.held():
            raise AssertionError
        with pytest.raises(StoreUnavailable), other.held():
            raise AssertionError
    other._limit_s = 5.0
    with other.held():
        pass
    for lock in (stopped, other):
        lock.close()


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
