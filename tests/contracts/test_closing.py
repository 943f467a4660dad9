"""Who may write down that a trace is closed, on every store: a closer that was overtaken meanwhile may not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lerim_jobs import faults
from lerim_jobs.jobs.cancelling import cancel
from lerim_jobs.jobs.closing import close_trace, unclosed_jobs
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import JobRequested, TraceClosed
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.store import Store
from tests.memory_store import MemoryStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """With the job `j`, which has ended and whose trace nobody has closed."""
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "log.sqlite3")
    request_job(made, "j", JobRequested("ask", {}, "all", "test", "h", "t" * 32, "s" * 16, 1))
    cancel(made, "j")
    yield made
    made.close()


def close(store: Store, owner: str, emit: Callable[[list[Any]], int], *, others_live: bool = True) -> bool:
    return close_trace(store, "j", owner, emit, alive=lambda owner: others_live, at_once=True)


def closings(store: Store) -> list[TraceClosed]:
    return [row.as_(TraceClosed) for row in store.read("job-j") if row.type == TraceClosed.__name__]


def test_a_closer_that_was_taken_for_dead_does_not_close_what_another_one_closes(store: Store) -> None:
    def first(events: list[Any]) -> int:
        # Emitting takes it long; another one begins, and has not come to its end when this one has.
        with pytest.raises(KeyboardInterrupt):
            close(store, "second", interrupted, others_live=False)
        return 1

    assert not close(store, "first", first)
    assert (closings(store), unclosed_jobs(store)) == ([], ["j"])
    assert close(store, "third", lambda events: 2, others_live=False)
    assert (closings(store), unclosed_jobs(store)) == ([TraceClosed(2)], [])


def test_a_closer_whose_time_is_over_does_not_close_what_another_one_closed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(faults.VARIABLE, str(tmp_path))

    def slow(events: list[Any]) -> int:
        assert not close(store, "second", lambda events: 2)
        (tmp_path / faults.CLOCK).write_text("31000")
        assert close(store, "second", lambda events: 2)
        return 1

    assert not close(store, "first", slow)
    assert closings(store) == [TraceClosed(2)]


def interrupted(events: list[Any]) -> int:
    raise KeyboardInterrupt
