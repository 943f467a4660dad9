"""Retention of stored words, on every store: by job, whatever other jobs wait for, and never what may still be needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from lerim_jobs.errors import CorruptLog
from lerim_jobs.jobs import pausing
from lerim_jobs.jobs.request import request_job
from lerim_jobs.jobs.retention import drop_answers, drop_orphans, drop_outputs
from lerim_jobs.jobs.settlement import end_job
from lerim_jobs.log.events import JobFinished, ModelCalled, StageCompleted
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.store import Store, Tx
from tests.contracts.test_claims import requested
from tests.memory_store import MemoryStore

DAY_MS = 86_400_000
BOTH = pytest.mark.parametrize("drop", [drop_answers, drop_outputs])
Drop = Callable[..., int]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "log.sqlite3")
    yield made
    made.close()


def say(tx: Tx, job: str, words: str, drop: Drop) -> str:
    """A stored answer, or a stored output of a stage."""
    blob = tx.put_blob(words.encode())
    answer = ModelCalled("answer", 1, "lead", "h", 0, blob, "m", "m", "p", 1, 1, 1)
    tx.append(f"job-{job}", [answer if drop is drop_answers else StageCompleted("answer", 1, output_blob=blob)])
    return blob


def begun(store: Store, job: str, words: str, drop: Drop) -> str:
    request_job(store, job, requested("ask", scope=job))
    with store.write() as tx:
        return say(tx, job, words, drop)


def end(store: Store, job: str) -> None:
    with store.write() as tx:
        end_job(tx, job, status="succeeded", result={}, error=None, meta={})


def over(store: Store, job: str, words: str, drop: Drop) -> str:
    blob = begun(store, job, words, drop)
    end(store, job)
    return blob


def stands(store: Store, blob: str) -> bool:
    try:
        return bool(store.blob(blob))
    except CorruptLog:
        return False


def later(store: Store) -> int:
    return store.now_ms() + 1


@BOTH
def test_one_forgotten_job_does_not_keep_the_words_of_all_that_ended_behind_it(store: Store, drop: Drop) -> None:
    forgotten = begun(store, "forgotten", "of the forgotten one", drop)
    pausing.pause_job(store, "forgotten")
    ended = [over(store, f"j{n}", f"words of {n}", drop) for n in range(20)]
    assert drop(store, older_than_ms=later(store)) == 20
    assert [blob for blob in ended if stands(store, blob)] == []
    assert stands(store, forgotten)
    end(store, "forgotten")
    assert [drop(store, older_than_ms=later(store)) for _ in range(2)] == [1, 0]
    assert not stands(store, forgotten)


@BOTH
def test_words_that_an_unfinished_job_has_as_well_stay_until_that_one_is_over(store: Store, drop: Drop) -> None:
    shared = begun(store, "open", "the same words", drop)
    assert over(store, "over", "the same words", drop) == shared
    own = over(store, "other", "other words", drop)
    assert drop(store, older_than_ms=later(store)) == 1
    assert (stands(store, shared), stands(store, own)) == (True, False)
    end(store, "open")
    assert drop(store, older_than_ms=later(store)) == 1
    assert not stands(store, shared)


@BOTH
def test_words_that_another_job_says_just_now_stay(store: Store, drop: Drop) -> None:
    """Between the look at what is in use and the dropping."""
    request_job(store, "open", requested("ask", scope="open"))
    shared = over(store, "over", "the same words", drop)

    class Overtaken:
        says = ["the same words"]

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        @contextmanager
        def write(self) -> Iterator[Tx]:
            with store.write() as tx:
                while self.says:
                    say(tx, "open", self.says.pop(), drop)
                yield tx

    drop(cast(Store, Overtaken()), older_than_ms=later(store))
    assert stands(store, shared)


@BOTH
def test_it_is_the_end_of_the_job_that_must_be_long_ago(drop: Drop) -> None:
    now = [40 * DAY_MS]
    store = MemoryStore(clock=lambda: now[0])
    old = over(store, "old", "old", drop)
    long = begun(store, "long", "said long ago, in a job that ended today", drop)
    now[0] += 30 * DAY_MS
    end(store, "long")
    young = over(store, "young", "young", drop)
    assert drop(store, older_than_ms=now[0] - 7 * DAY_MS) == 1
    assert (stands(store, old), stands(store, long), stands(store, young)) == (False, True, True)
    now[0] += 8 * DAY_MS
    assert drop(store, older_than_ms=now[0] - 7 * DAY_MS) == 2


@BOTH
def test_a_clock_that_was_wrong_once_keeps_nothing_for_ever(drop: Drop) -> None:
    now = [40 * DAY_MS]
    store = MemoryStore(clock=lambda: now[0])
    over(store, "a", "a", drop)
    now[0] += 4000 * DAY_MS
    over(store, "b", "at a time that has not come", drop)
    now[0] -= 4000 * DAY_MS
    over(store, "c", "c", drop)
    assert drop(store, older_than_ms=now[0] - 1) == 0
    now[0] += 10 * DAY_MS
    assert drop(store, older_than_ms=now[0] - 7 * DAY_MS) == 3


@BOTH
def test_a_job_that_cannot_be_read_keeps_its_words_and_stops_nothing(tmp_path: Path, drop: Drop) -> None:
    store = SqliteStore(tmp_path / "log.sqlite3")
    unread = over(store, "unread", "words of a damaged event", drop)
    read = over(store, "read", "words", drop)
    with store.write() as tx:
        tx.execute("UPDATE events SET data = json_set(data, '$.attempt', 'one') WHERE data LIKE ?", f"%{unread}%")
    assert drop(store, older_than_ms=later(store)) == 1
    assert drop_orphans(store) == 0
    assert (stands(store, unread), stands(store, read)) == (True, False)


def test_only_what_no_event_names_is_an_orphan(store: Store) -> None:
    named = begun(store, "j", "named", drop_answers)
    ended = over(store, "k", "named by a job that is over", drop_outputs)
    orphan = store.put_blob(b"of nobody")
    store.append("job-l", [JobFinished("succeeded", {"says": orphan[:63]}, None)])
    assert drop_orphans(store) == 1
    assert [stands(store, blob) for blob in (named, ended, orphan)] == [True, True, False]
