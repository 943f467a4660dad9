"""An attempt that failed says so, also when the log cannot be written for a moment: unsaid it would look like a death."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lerim_jobs import faults
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import JobRequested
from lerim_jobs.machine import identity
from tests.here import Here
from workers import runner as running
from workers.stage import Outcome, StageContext


def test_a_failure_waits_for_a_log_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "_folder", lambda: tmp_path)
    here = Here(tmp_path / "m")
    full = tmp_path / faults.DISK_FULL

    def fail(ctx: StageContext) -> Outcome:
        full.touch()
        threading.Timer(0.6, full.unlink).start()
        raise ValueError("no such thing")

    monkeypatch.setattr(running, "load_stage", lambda stage: fail)
    request_job(here.store, "j", JobRequested("ask", {}, "j", "test", identity.host_name(), "a" * 32, "b" * 16, 1))
    here.runner.run_hint("j", "answer")
    (failed,) = here.events("j", "StageFailed")
    assert (failed.error_type, failed.attempt) == ("ValueError", 1)
    row = here.store.stage("j", "answer")
    assert row is not None
    assert (row.state, row.strikes, row.owner) == ("ready", 1, None)
    assert here.store.docs("_deaths") == []
    here.close()


def test_a_worker_that_stops_waits_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stage is handed back or taken over; its end must stay bounded."""
    monkeypatch.setattr(faults, "_folder", lambda: tmp_path)
    here = Here(tmp_path / "m")

    def fail(ctx: StageContext) -> Outcome:
        (tmp_path / faults.DISK_FULL).touch()
        here.runner.stopping.set()
        raise ValueError("no such thing")

    monkeypatch.setattr(running, "load_stage", lambda stage: fail)
    request_job(here.store, "j", JobRequested("ask", {}, "j", "test", identity.host_name(), "a" * 32, "b" * 16, 1))
    with pytest.raises(Exception, match="full"):
        here.runner.run_hint("j", "answer")
    (tmp_path / faults.DISK_FULL).unlink()
    assert here.events("j", "StageFailed") == []
    here.close()
