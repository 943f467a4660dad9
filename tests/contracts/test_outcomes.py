"""Outcomes on every store: what is parked rests, what is freed may be taken at once, sums are added up, the dead come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lerim_jobs.config import Budget, Settings
from lerim_jobs.errors import BadInput, ConflictError, Parked
from lerim_jobs.jobs import budget, claims, outcomes, parking, sums
from lerim_jobs.jobs.caps import Wish
from lerim_jobs.jobs.claims import Claim, Refused
from lerim_jobs.jobs.dead import revive
from lerim_jobs.jobs.job import load
from lerim_jobs.jobs.loading import output_at, outputs_before
from lerim_jobs.jobs.outcomes import Effect, End
from lerim_jobs.jobs.rebuilding import rebuild_claims
from lerim_jobs.jobs.request import request_job
from lerim_jobs.jobs.sweep import sweep
from lerim_jobs.log.events import MemoryArchived, StageRequested
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.store import StageRow, Store, Tx
from tests.contracts.test_claims import done, fan_out, names, requested, started_sync, take, taken
from tests.memory_store import MemoryStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "log.sqlite3")
    yield made
    made.close()


def alive(owner: str) -> bool:
    return True


def capped(usd: float) -> Settings:
    return Settings(budget=Budget(per_job_usd=usd))


def wish(job_id: str, usd: float = 1.0) -> Wish:
    return Wish(job_id, "lead", "openai", usd, 10, "w1", 60_000)


def park(store: Store, held: Claim, usd: float = 1.0) -> None:
    with pytest.raises(Parked) as caught:
        budget.admit(store, held.stage, wish(held.job_id, usd), capped(0.5), alive=alive)
    assert caught.value.waits_for is not None
    assert outcomes.park(store, held, waits_for=caught.value.waits_for, message=str(caught.value))


def state(store: Store, stage: str, job: str = "j") -> str | None:
    row = store.stage(job, stage)
    return row.state if row else None


# --- parking ---------------------------------------------------------------------------------------
def test_a_parked_stage_rests_until_there_is_room(store: Store) -> None:
    """A year of sweeps makes no attempt and no event of it; a raised cap makes one."""
    request_job(store, "j", requested("ask"))
    park(store, taken(store, "answer"))
    position = store.position()
    assert take(store, "answer") == Refused("parked")
    sent: list[StageRow] = []
    for _ in range(100):
        sweep(store, sent.append, alive=alive, queue_length=lambda queue: 0)
        assert parking.woken(store, capped(0.5)) == []
    assert (sent, store.position(), load(store, "j").status) == ([], position, "parked")
    assert parking.woken(store, capped(2.0)) == [("j", "answer")]
    row = claims.wake(store, "j", "answer")
    assert row is not None
    assert (row.state, claims.wake(store, "j", "answer")) == ("ready", None)
    second = taken(store, "answer")
    assert (second.attempt, second.strikes) == (2, 1)
    assert load(store, "j").status == "running"


def test_only_as_many_are_woken_as_there_is_room_for(store: Store) -> None:
    """Five windows wait for a dollar each: a cap of two and a half wakes two, and none is woken twice for the same room."""
    request_job(store, "j", requested())
    plan = [StageRequested(stage=f"extract:a:{n}", queue="extract") for n in range(5)]
    done(store, taken(store, "index"), next_stages=plan)
    for n in range(5):
        park(store, taken(store, f"extract:a:{n}"))
    found = parking.woken(store, capped(2.5))
    assert found == [("j", "extract:a:0"), ("j", "extract:a:1")]
    for job_id, stage in found:
        claims.wake(store, job_id, stage)
    assert parking.woken(store, capped(2.5)) == []
    assert len(parking.woken(store, capped(4.5))) == 2
    taken(store, "extract:a:0")  # it asks for its money itself from now on
    assert budget.admit(store, "k", wish("j"), capped(2.5), alive=alive) == 0
    assert parking.woken(store, capped(2.5)) == []


def test_a_cancelled_job_leaves_nothing_parked(store: Store) -> None:
    from lerim_jobs.jobs.cancelling import cancel

    request_job(store, "j", requested("ask"))
    park(store, taken(store, "answer"))
    cancel(store, "j")
    assert (store.docs(parking.PARKED), parking.woken(store, capped(9.0))) == ([], [])
    assert claims.wake(store, "j", "answer") is None


# --- going on at once ------------------------------------------------------------------------------
def at_once(store: Store, held: Claim, **options: Any) -> outcomes.Settled:
    """Complete, and take the first stage that it freed."""

    def take_next(tx: Tx, row: StageRow) -> Claim | Refused:
        return claims.take(tx, row, held.owner, alive=alive, max_attempts=3)

    settled = outcomes.complete(store, held, **{"output": {}, "take_next": take_next, **options})
    assert settled is not None
    return settled


def test_a_freed_stage_is_taken_in_the_transaction_that_freed_it(store: Store) -> None:
    request_job(store, "j", requested("ask"))
    settled = at_once(store, taken(store, "answer"))
    assert settled.taken is not None
    assert (settled.taken.stage, settled.taken.attempt, settled.freed) == ("finish", 1, [])
    assert take(store, "finish", "w2") == Refused("leased")
    ended = at_once(store, settled.taken, end=End("succeeded", {}))
    assert (ended.ended, ended.taken, load(store, "j").status) == (True, None, "succeeded")


def test_a_transaction_that_fails_has_taken_nothing(store: Store) -> None:
    request_job(store, "j", requested("ask"))
    held = taken(store, "answer")
    store.append("memory-m", [MemoryArchived(memory_id="m")])
    with pytest.raises(ConflictError):
        at_once(store, held, effects=[Effect("memory-m", [MemoryArchived(memory_id="m")], expected=0)])
    assert (state(store, "answer"), state(store, "finish")) == ("running", "waiting")


def test_only_one_is_taken_and_the_others_are_for_the_queue(store: Store) -> None:
    request_job(store, "j", requested())
    settled = at_once(store, taken(store, "index"), next_stages=fan_out())
    assert settled.taken is not None
    assert (settled.taken.stage, names(settled)) == ("extract:a:0", ["extract:a:1"])


def test_a_paused_job_is_not_gone_on_with_at_once(store: Store) -> None:
    from lerim_jobs.jobs.pausing import pause_job

    request_job(store, "j", requested("ask"))
    held = taken(store, "answer")
    pause_job(store, "j")
    settled = at_once(store, held)
    assert (settled.taken, names(settled)) == (None, ["finish"])


# --- sums and outputs ------------------------------------------------------------------------------
def test_commits_add_up_what_their_families_count(store: Store) -> None:
    request_job(store, "j", requested())
    about = {"session": {"session_id": "s", "stream": "x", "project_id": "p"}}
    plan = [StageRequested(stage=f"extract:a:{n}", queue="extract", input=about) for n in range(3)]
    done(store, taken(store, "index"), next_stages=plan, output={"found": 7})
    for n in range(3):
        output = {"candidates": [{}] * n, "dropped": [{}], "replayed": 2, "other": 5}
        done(store, taken(store, f"extract:a:{n}"), output=output)
    found = sums.of(store, "j")
    assert found["extract"] == {"completed": 3, "candidates": 3, "dropped": 3, "replayed": 6}
    assert found["index"] == {"completed": 1}
    assert list(sums.of(store, "j", project_id="p")) == ["extract"]
    assert sums.memory_counts(found)["rejected"] == 3
    done(store, taken(store, "finish"), end=End("succeeded", {}))
    assert sums.of(store, "j") == {}


def test_a_stage_gets_the_outputs_of_what_it_needed(store: Store) -> None:
    started_sync(store)
    for n in (1, 0):
        done(store, taken(store, f"extract:a:{n}"), output={"n": n, "text": "x" * 20_000 * n})
    got = outputs_before(store, "j", "integrate:a", ("extract",))
    assert [(name, output["n"]) for name, output in got.items()] == [("extract:a:0", 0), ("extract:a:1", 1)]
    assert outputs_before(store, "j", "integrate:a", ("summarize",)) == {}
    row = store.stage("j", "extract:a:1")
    assert row is not None
    assert row.outcome is not None
    assert len(output_at(store, "j", row.outcome)["text"]) == 20_000


# --- another chance --------------------------------------------------------------------------------
def give_up(store: Store, stage: str) -> None:
    held = taken(store, stage)
    assert outcomes.fail(store, held, error_type="E", code="c", message="m", retry_in_ms=None)


def test_a_revived_stage_takes_along_what_was_skipped_for_it_and_nothing_runs_before_it(store: Store) -> None:
    started_sync(store)
    give_up(store, "extract:a:1")
    done(store, taken(store, "extract:a:0"))
    assert [state(store, name) for name in ("integrate:a", "integrate:b", "publish:p")] == [
        "skipped",
        "ready",
        "waiting",
    ]
    revive(store, "j")
    assert [state(store, name) for name in ("extract:a:1", "integrate:a", "integrate:b")] == [
        "ready",
        "waiting",
        "waiting",
    ]
    for name, freed in (
        ("extract:a:1", ["integrate:a"]),
        ("integrate:a", ["integrate:b"]),
        ("integrate:b", ["publish:p"]),
        ("publish:p", ["finish"]),
    ):
        assert names(done(store, taken(store, name))) == freed


def test_what_has_gone_on_without_a_dead_stage_cannot_be_taken_back(store: Store) -> None:
    started_sync(store)
    give_up(store, "extract:a:1")
    done(store, taken(store, "extract:a:0"))
    done(store, taken(store, "integrate:b"))
    before = store.stages("j")
    with pytest.raises(BadInput, match="integrate:b of job 'j' has gone on"):
        revive(store, "j")
    assert store.stages("j") == before


def test_rows_made_anew_are_the_rows_that_were(store: Store) -> None:
    """Through a whole life of a job; leases, due times and strikes as they were."""
    request_job(store, "k", requested("ask", scope="k"))
    park(store, taken(store, "answer", job="k"))
    for step in (
        lambda: request_job(store, "j", requested()),
        lambda: done(store, taken(store, "index"), next_stages=fan_out(), output={"found": 1}),
        lambda: outcomes.release(store, taken(store, "extract:a:0")),
        lambda: outcomes.fail(
            store, taken(store, "extract:a:0"), error_type="E", code="bug", message="", retry_in_ms=-5
        ),
        lambda: give_up(store, "extract:a:1"),
        lambda: revive(store, "j"),
        lambda: done(store, taken(store, "extract:a:0"), output={"candidates": [{}], "dropped": []}),
        lambda: taken(store, "extract:a:1"),
    ):
        step()
        with store.write() as tx:
            before = {job: (tx.stages(job), sums.of(tx, job)) for job in tx.open_jobs()}
            assert rebuild_claims(tx) == []
            assert {job: (tx.stages(job), sums.of(tx, job)) for job in tx.open_jobs()} == before
            forgotten = {job: [_derived(row) for row in rows] for job, (rows, _) in before.items()}
            for job in before:
                tx.drop_stages(job)
            assert rebuild_claims(tx) == sorted(before)
            assert {job: [_derived(row) for row in tx.stages(job)] for job in before} == forgotten


def _derived(row: StageRow) -> StageRow:
    """Without what only a row knows."""
    return msgspec.structs.replace(row, lease_until_ms=0, due_ms=0, sent_ms=0)
