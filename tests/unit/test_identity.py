"""Owners of leases: when a process counts as gone, and when that cannot be told."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from lerim_jobs.machine import identity


def owner(**changed: str) -> str:
    host, pid, start, nonce = identity.me().split("/")
    return "/".join({"host": host, "pid": pid, "start": start, "nonce": nonce, **changed}.values())


def test_this_process_is_alive() -> None:
    assert identity.alive(identity.me()) is True


def test_a_recycled_pid_is_not_taken_for_its_former_owner() -> None:
    assert identity.alive(owner(start="1")) is False


def test_a_pid_that_is_not_there_is_gone() -> None:
    assert identity.alive(owner(pid="4194304999")) is False
    assert not identity.still_runs(4194304999, "")


def test_a_zombie_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert identity.started_at(child.pid) == ""


@pytest.mark.parametrize("other", [{"host": "elsewhere.12345678.4026531836"}, {"pid": "x"}, {"nonce": "a/b"}])
def test_of_another_machine_or_an_unreadable_owner_nothing_can_be_told(other: dict[str, str]) -> None:
    assert identity.alive(owner(**other)) is None
    assert identity.alive("") is None


def test_two_lives_of_one_process_differ() -> None:
    assert identity.me() != identity.me()


def test_a_host_name_suits_a_queue_name() -> None:
    assert re.fullmatch(r"[a-z0-9.-]+", identity.host_name())


_NO_MORE_FILES = """
import resource
from lerim_jobs.machine import identity
me = identity.me()
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
print(identity.alive(me), identity.alive(me.replace("/", "/9", 1)))
"""


def test_a_process_that_can_open_no_file_takes_nobody_for_dead() -> None:
    done = subprocess.run([sys.executable, "-c", _NO_MORE_FILES], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "None"]
