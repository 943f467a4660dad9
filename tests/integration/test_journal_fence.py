"""Acceptance C4: who lost a claim asks no model any more, and an answer that came meanwhile is replayed, not asked again."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from lerim_jobs import faults
from lerim_jobs.config import Settings
from lerim_jobs.errors import AlreadyAnswered, ConfigError, ConflictError, StoreUnavailable
from lerim_jobs.jobs import claims
from lerim_jobs.jobs.claims import Claim
from lerim_jobs.jobs.request import request_job
from lerim_jobs.jobs.settlement import end_job, journal_view
from lerim_jobs.log.events import JobRequested, ModelCalled
from lerim_jobs.log.sqlite import SqliteStore
from workers.log_journal import LogJournal
from workers.models.calls import Called

WISH = {"role": "lead", "provider": "openai", "usd": 0.1, "tokens": 10, "hold_ms": 1000}
CALL = Called("lead", "h", 0, "m", "m", "openai", 5, 5, 10, cost_usd=0.01)


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    made = SqliteStore(tmp_path / "log.sqlite3")
    request_job(made, "a", JobRequested("ask", {}, "all", "cli", "here", "t", "s", 1))
    return made


def claim(store: SqliteStore, owner: str) -> Claim:
    got = claims.claim(store, "a", "answer", owner, alive=lambda _: False, max_attempts=9)
    assert isinstance(got, Claim)
    return got


def journal(store: SqliteStore, held: Claim) -> LogJournal:
    return LogJournal(store, held, session_id=None, project_id=None, caps_now=Settings, meta={})


def calls(store: SqliteStore) -> list[ModelCalled]:
    return [row.as_(ModelCalled) for row in store.read("job-a") if row.type == "ModelCalled"]


def test_a_worker_that_lost_its_claim_is_let_out_no_more(store: SqliteStore) -> None:
    first = journal(store, claim(store, "one"))
    assert isinstance(first.admit(WISH, "h", 0), str)
    second = journal(store, claim(store, "two"))
    with pytest.raises(ConflictError, match="taken over"):
        first.admit(WISH, "h", 1)
    assert isinstance(second.admit(WISH, "h", 0), str)


def test_an_answer_that_came_meanwhile_is_not_asked_for_again(store: SqliteStore) -> None:
    first = journal(store, claim(store, "one"))
    key = first.admit(WISH, "h", 0)
    assert isinstance(key, str)
    second = journal(store, claim(store, "two"))
    assert second.find("h", 0) is None
    first.record(CALL, b"answer", [key])
    with pytest.raises(AlreadyAnswered):
        second.admit(WISH, "h", 0)
    assert second.find("h", 0) == b"answer"
    (call,) = calls(store)
    assert call.asked_version is not None
    assert call.caps_version == 1


def test_a_late_answer_leaves_nothing_behind_for_a_job_that_is_over(store: SqliteStore) -> None:
    late = journal(store, claim(store, "one"))
    key = late.admit(WISH, "h", 0)
    assert isinstance(key, str)
    with store.write() as tx:
        end_job(tx, "a", status="failed", result={}, error=None, meta={})
    late.record(CALL, b"answer", [key])
    assert len(calls(store)) == 1
    assert store.docs(journal_view("a")) == []
    assert [key for key, _ in store.docs("_spent") if key.startswith("job/")] == []


def test_an_answer_is_kept_through_a_moment_of_a_full_disk(
    store: SqliteStore, tmp_path: Path, monkeypatch: Any
) -> None:
    one = journal(store, claim(store, "one"))
    key = one.admit(WISH, "h", 0)
    assert isinstance(key, str)
    monkeypatch.setenv(faults.VARIABLE, str(tmp_path))
    (tmp_path / faults.DISK_FULL).touch()
    with pytest.raises(StoreUnavailable, match="full"):
        store.append("job-a", [])
    threading.Timer(0.6, (tmp_path / faults.DISK_FULL).unlink).start()
    begin = time.monotonic()
    one.record(CALL, b"answer", [key])
    assert time.monotonic() - begin > 0.5
    assert len(calls(store)) == 1


def test_fault_points_do_nothing_without_the_variable(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.delenv(faults.VARIABLE, raising=False)
    for point in faults.POINTS:
        faults.die(point)
    assert (faults.armed(faults.DISK_FULL), faults.skew_ms()) == (False, 0)


def test_a_jumping_clock_moves_the_log_s_clock_too(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv(faults.VARIABLE, str(tmp_path))
    store = SqliteStore(tmp_path / "log.sqlite3")
    before = store.now_ms()
    (tmp_path / faults.CLOCK).write_text("60000")
    assert 59_000 < store.now_ms() - before < 70_000
    store.close()


@pytest.mark.parametrize(("given", "ms"), [("", 30_000), ("2", 2000), ("2.5", 2500)])
def test_the_lease_s_length_comes_from_the_environment(given: str, ms: int) -> None:
    assert claims.lease_ms({"LERIM_LEASE_S": given}) == ms


@pytest.mark.parametrize("given", ["0", "ten", "-1", "nan", "99999"])
def test_an_unusable_lease_is_an_error(given: str) -> None:
    with pytest.raises(ConfigError, match="LERIM_LEASE_S"):
        claims.lease_ms({"LERIM_LEASE_S": given})
