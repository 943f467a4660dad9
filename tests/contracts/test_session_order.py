"""Sessions of a project are integrated the oldest first, on every store, whatever else is ready sooner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lerim_jobs.jobs import claims, outcomes
from lerim_jobs.jobs.claims import Claim, Refused
from lerim_jobs.jobs.request import request_job
from lerim_jobs.kinds.sync import SessionPlan, after_index
from lerim_jobs.log.events import JobRequested
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.store import Store
from tests.memory_store import MemoryStore

# Three sessions of one project, as index hands them over, and a younger one of another project.
SESSIONS = [("a", "p"), ("b", "p"), ("c", "p"), ("x", "q")]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """With the sync `j`, whose index has planned the sessions."""
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "log.sqlite3")
    request_job(made, "j", JobRequested("sync", {}, "all", "test", "h", "t" * 32, "s" * 16, 1))
    plans = [SessionPlan(key, f"session-{key}", key, "codex", project, 0, 2, 1, 8000, 200) for key, project in SESSIONS]
    outcomes.complete(made, taken(made, "index"), output={}, next_stages=after_index(plans, host="h", params={}))
    yield made
    made.close()


def take(store: Store, stage: str) -> Claim | Refused:
    return claims.claim(store, "j", stage, "w", alive=lambda owner: True, max_attempts=1)


def taken(store: Store, stage: str) -> Claim:
    got = take(store, stage)
    assert isinstance(got, Claim), (stage, got)
    return got


def complete(store: Store, *stages: str) -> list[str]:
    """The stages that each of them sets free, in order."""
    freed: list[str] = []
    for stage in stages:
        settled = outcomes.complete(store, taken(store, stage), output={})
        assert settled is not None
        freed += [row.stage for row in settled.freed]
    return freed


def give_up(store: Store, stage: str) -> None:
    """Its only attempt fails."""
    gone: dict[str, Any] = {
        "error_type": "BadTranscript",
        "code": "bad_transcript",
        "message": "no",
        "retry_in_ms": None,
    }
    assert outcomes.fail(store, taken(store, stage), **gone) is not None


def test_a_session_waits_for_the_older_one_of_its_project_and_for_no_other(store: Store) -> None:
    assert complete(store, "extract:x:0", "summarize:x") == ["integrate:x"]
    assert complete(store, "extract:c:0", "summarize:c", "extract:b:0", "summarize:b") == []
    for early in ("integrate:b", "integrate:c"):
        assert isinstance(take(store, early), Refused)
    assert complete(store, "extract:a:0", "summarize:a") == ["integrate:a"]
    assert complete(store, "integrate:a") == ["integrate:b"]
    assert isinstance(take(store, "integrate:c"), Refused)
    assert complete(store, "integrate:b") == ["integrate:c"]


def test_files_are_written_when_the_youngest_session_of_the_project_is_integrated(store: Store) -> None:
    parts = [f"{part}:{key}{end}" for key, _ in SESSIONS for part, end in (("extract", ":0"), ("summarize", ""))]
    complete(store, *parts)
    freed = [complete(store, f"integrate:{key}") for key in "abc"]
    assert [[one.partition(":")[0] for one in stages] for stages in freed] == [
        ["integrate"],
        ["integrate"],
        ["publish"],
    ]


def test_a_session_that_is_given_up_holds_no_younger_one(store: Store) -> None:
    complete(store, "extract:b:0", "summarize:b", "summarize:a")
    give_up(store, "extract:a:0")
    assert complete(store, "integrate:b") == []
    assert complete(store, "extract:c:0", "summarize:c") == ["integrate:c"]
