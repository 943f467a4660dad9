"""A worker process that cannot boot says so in one line, one that stops ends whatever breaks, one that works well is quiet."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lerim_jobs.machine import embedded
from lerim_jobs.machine.processes import workers_running
from lerim_jobs.paths import Home
from tests.here import Here
from tests.waiting import until
from workers.leases import Leases

_BROKEN_STOP = """
from workers.__main__ import main
from workers.leases import Leases
def broken(self):
    raise RuntimeError("cannot start new thread")
Leases.release_all = broken
main()
"""


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    state = Home(tmp_path / "h").ensure()
    yield state
    embedded.stop(state, only_if_unused=False)


def start(home: Home, *command: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command, "--queues", "ask"],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home.root),
            "LERIM_HOME": str(home.root),
            "LERIM_PROVIDER": "offline",
            **env,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("LERIM_STOP_GRACE_S", "abc", "LERIM_STOP_GRACE_S='abc': must be 0 to 600 seconds"),
        ("LERIM_STOP_GRACE_S", "-1", "LERIM_STOP_GRACE_S='-1': must be 0 to 600 seconds"),
        ("LERIM_LEASE_S", "abc", "LERIM_LEASE_S='abc': must be 1 to 3600 seconds"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "20000", "tracing: the environment has a value that cannot be used"),
    ],
)
def test_a_number_that_cannot_be_used_is_one_line_at_boot(home: Home, variable: str, value: str, said: str) -> None:
    worker = start(home, "-m", "workers", **{variable: value}, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    _, err = worker.communicate(timeout=30)
    assert worker.returncode == 2
    errors = [line for line in err.splitlines() if "ERROR" in line]
    assert len(errors) == 1, err
    assert said in errors[0]
    assert "Traceback" not in err


def test_a_worker_that_cannot_hand_its_stages_back_ends_all_the_same(home: Home) -> None:
    worker = start(home, "-c", _BROKEN_STOP)
    until(lambda: workers_running(home), 30, what="a worker")
    children = psutil.Process(worker.pid).children()
    begin = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    _, err = worker.communicate(timeout=30)
    assert time.monotonic() - begin < 15
    assert "could not hand back running stages, their leases will run out: cannot start new thread" in err
    assert "Traceback" not in err
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_no_claim_of_a_job_that_goes_well_is_called_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A stage whose outcome is in the log holds no lease any more while its thread goes on with what follows."""
    here = Here(tmp_path / "m", sampled=True)
    leases = Leases(here.store, look_s=0.0005)
    here.runner = dataclasses.replace(here.runner, leases=leases)
    leases.start()
    here.session("cccccccc-0000-4000-8000-000000000001", ["We decided to keep orders in Postgres."])
    assert here.sync()["status"] == "succeeded"
    leases.stop()
    here.close()
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
