"""Pausing, cancelling, giving another chance, and who is blamed for a death: on every store."""

from __future__ import annotations

from typing import Any

import pytest

from lerim_jobs.errors import BadInput
from lerim_jobs.jobs import budget, claims, deaths, outcomes, pausing, recount
from lerim_jobs.jobs.cancelling import CLOSE_AFTER_MS, cancel
from lerim_jobs.jobs.caps import Wish
from lerim_jobs.jobs.claims import Claim, Refused
from lerim_jobs.jobs.closing import close_trace
from lerim_jobs.jobs.dead import dead_sessions, dead_stages, drop, retry, revive
from lerim_jobs.jobs.job import fold, load
from lerim_jobs.jobs.line import JOBS
from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.jobs.request import request_job
from lerim_jobs.jobs.sweep import sweep
from lerim_jobs.log.events import (
    SessionIndexed,
    SessionQuarantined,
    SessionScheduled,
    StageQuarantined,
    StageRequested,
    StageStarted,
)
from lerim_jobs.log.projection import find
from lerim_jobs.log.store import Store
from lerim_jobs.sessions.session import SESSIONS
from tests.contracts.test_claims import (
    backdate,
    done,
    everyone_lives,
    names,
    nobody_lives,
    requested,
    started_sync,
    store,
    take,
    taken,
)

__all__ = ["store"]
STREAM = "session-a-1"


def status(store: Store, job: str = "j") -> str:
    line = find(store, JOBS, job)
    assert line is not None
    return line.status


def swept(store: Store, alive: Any = everyone_lives) -> list[str]:
    sent: list[str] = []
    sweep(store, lambda row: sent.append(row.stage), alive=alive, queue_length=lambda queue: 0)
    return sent


# --- pausing ---------------------------------------------------------------------------------------
def test_b5_a_paused_job_starts_nothing_costs_no_attempt_and_goes_on_when_resumed(store: Store) -> None:
    started_sync(store)
    running = taken(store, "extract:a:0")
    assert pausing.pause_job(store, "j")
    assert not pausing.pause_job(store, "j")
    assert take(store, "extract:a:1") == Refused("paused")
    assert status(store) == "paused"
    backdate(store, 60_000)
    assert swept(store) == []
    done(store, running)
    assert pausing.resume_job(store, "j")
    assert not pausing.resume_job(store, "j")
    assert [row.stage for row in pausing.startable(store)] == ["extract:a:1"]
    held = taken(store, "extract:a:1")
    assert (held.attempt, held.strikes, status(store)) == (1, 1, "running")


@pytest.mark.parametrize(("queue", "other_starts"), [("extract", True), (pausing.EVERYTHING, False)])
def test_b5_a_paused_queue_holds_its_stages_of_every_job_and_no_others(
    store: Store, queue: str, other_starts: bool
) -> None:
    started_sync(store)
    request_job(store, "k", requested("ask", "k"))
    assert pausing.pause_queue(store, queue)
    assert take(store, "extract:a:0") == Refused("paused")
    assert isinstance(take(store, "answer", job="k"), Claim) is other_starts
    assert pausing.resume_queue(store, pausing.EVERYTHING)
    taken(store, "extract:a:0")


def test_a_worker_that_dies_under_a_pause_is_replaced_only_when_it_is_over(store: Store) -> None:
    started_sync(store)
    taken(store, "extract:a:0", lease_ms=-1)
    pausing.pause_job(store, "j")
    backdate(store, 10_000)
    assert swept(store, nobody_lives) == []
    pausing.resume_job(store, "j")
    assert "extract:a:0" in swept(store, nobody_lives)


def test_what_is_paused_comes_back_from_the_log(store: Store) -> None:
    for job in ("j", "k"):
        request_job(store, job, requested(scope=job))
        pausing.pause_job(store, job)
    pausing.pause_queue(store, "ask")
    pausing.pause_queue(store, "agent")
    pausing.resume_queue(store, "ask")
    cancel(store, "k")
    before = pausing.paused(store)
    assert before == {"job/j", "queue/agent"}
    with store.write() as tx:
        tx.clear_docs("_paused")
        tx.put_doc("_paused", "queue/nobody", b"1")
    assert recount.pauses(store)
    assert pausing.paused(store) == before
    assert not recount.pauses(store)


def test_an_ended_job_cannot_be_paused(store: Store) -> None:
    request_job(store, "j", requested())
    cancel(store, "j")
    with pytest.raises(BadInput, match="not running"):
        pausing.pause_job(store, "j")


def test_a_paused_stage_does_not_stand_in_the_way_of_its_lane(store: Store) -> None:
    lane = [StageRequested(stage="curate:p", queue="agent", lane="p")]
    for job in ("j", "k", "l"):
        request_job(store, job, requested(scope=job))
        done(store, taken(store, "index", job=job), next_stages=lane)
    first = taken(store, "curate:p", job="j")
    pausing.pause_job(store, "k")
    assert [row.job_id for row in done(store, first).freed if row.stage == "curate:p"] == ["l"]


# --- cancelling ------------------------------------------------------------------------------------
def sync_with_a_session(store: Store) -> None:
    request_job(store, "j", requested())
    indexed = SessionIndexed("a", "1", "/f", "h", 1, 1, 1, 1, "t", turn_to=4, blob="b", human_prompts=1)
    taken_turns = SessionScheduled("j", "p", 0, 4)
    about = {"session": {"stream": STREAM, "project_id": "p"}}
    stages = [
        StageRequested(stage="extract:a:0", queue="extract", input=about),
        StageRequested(stage="integrate:a", queue="agent", input=about, needs=["extract:a:0"], lane="p"),
    ]
    done(store, taken(store, "index"), effects=[Effect(STREAM, [indexed, taken_turns])], next_stages=stages)


def test_b5_a_cancelled_job_ends_gives_its_sessions_back_and_fences_what_runs(store: Store) -> None:
    sync_with_a_session(store)
    running = taken(store, "extract:a:0")
    ended = cancel(store, "j")
    assert (ended.running, ended.sessions) == (["extract:a:0"], ["1"])
    assert (status(store), store.stages("j")) == ("cancelled", [])
    assert not claims.still_holds(store, running)
    assert (
        outcomes.complete(store, running, output={}, effects=[Effect("memory-m", [SessionScheduled("j", "p", 0, 1)])])
        is None
    )
    assert store.read("memory-m") == []
    session = find(store, SESSIONS, STREAM)
    assert session is not None
    assert (session.taken_by, session.next_turns) == (None, (0, 4))
    with pytest.raises(BadInput, match="ended already: cancelled"):
        cancel(store, "j")
    with pytest.raises(BadInput, match="no job"):
        cancel(store, "nobody")


def test_a_cancelled_job_frees_its_lane_and_wakes_who_waited(store: Store) -> None:
    lane = [StageRequested(stage="curate:p", queue="agent", lane="p")]
    for job in ("j", "k"):
        request_job(store, job, requested(scope=job))
        done(store, taken(store, "index", job=job), next_stages=lane)
    taken(store, "curate:p", job="j")
    assert take(store, "curate:p", job="k") == Refused("lane busy")
    ended = cancel(store, "j")
    assert [(row.job_id, row.stage) for row in ended.freed] == [("k", "curate:p")]
    taken(store, "curate:p", job="k")


def test_a_cancelled_attempt_is_so_in_the_trace_which_waits_for_workers_to_end_their_spans(store: Store) -> None:
    sync_with_a_session(store)
    taken(store, "extract:a:0")
    cancel(store, "j")
    job = fold(store.read("job-j"))
    assert job is not None
    assert job.stages["extract:a:0"].attempts[1].outcome == "cancelled"
    assert CLOSE_AFTER_MS > 0
    assert not close_trace(store, "j", "me", len, alive=everyone_lives)
    assert close_trace(store, "j", "me", len, alive=everyone_lives, at_once=True)


def test_what_a_cancelled_job_has_reserved_counts_until_its_calls_must_be_over(store: Store) -> None:
    from lerim_jobs.config import Settings

    request_job(store, "j", requested())
    for owner, hold_ms in (("dead just now", 60_000), ("dead long ago", 0)):
        wish = Wish("j", "lead", "openai", 0.01, 10, owner, hold_ms)
        assert budget.admit(store, f"j/{owner}", wish, Settings(), alive=everyone_lives) == 0
    cancel(store, "j")
    assert {one.key for one in budget.reservations(store)} >= {"j/dead just now"}
    assert budget.expire(store) == 1
    assert [one.key for one in budget.reservations(store)] == ["j/dead just now"]


# --- deaths ----------------------------------------------------------------------------------------
def die(store: Store, stage: str, owner: str) -> Claim:
    return taken(store, stage, owner, lease_ms=-1, max_attempts=5)


def test_b4_only_one_suspect_at_a_time_runs_in_a_process_so_neighbours_survive(store: Store) -> None:
    """Everything that ran beside a stage that kills its worker dies with it: that must not be its quarantine too."""
    started_sync(store)
    poison, neighbour = "extract:a:0", "extract:a:1"
    for owner in ("w1", "w2"):
        die(store, poison, owner)
        die(store, neighbour, owner)
    # Both have died twice now: either may be the one.
    die(store, poison, "w3")
    assert take(store, neighbour, "w3", max_attempts=5) == Refused("another suspect runs in this process")
    die(store, poison, "w4")
    assert isinstance(take(store, poison, "w5", max_attempts=5), Claim)
    backdate(store, 10_000)
    done(store, taken(store, neighbour, "w6", alive=nobody_lives, max_attempts=5))
    assert load(store, "j").stages[neighbour].state == "done"
    assert store.docs("_deaths")
    cancel(store, "j")
    assert store.docs("_deaths") == []


def test_a_stage_that_ended_with_a_word_is_no_suspect_any_more(store: Store) -> None:
    started_sync(store)
    for owner in ("w1", "w2"):
        die(store, "extract:a:0", owner)
    held = taken(store, "extract:a:0", "w3", max_attempts=5)
    outcomes.fail(store, held, error_type="E", code="c", message="m", retry_in_ms=0)
    assert (store.docs("_deaths"), store.docs("_suspects")) == ([], [])


def test_b4_how_a_worker_ended_is_part_of_the_evidence(store: Store) -> None:
    started_sync(store)
    owner = "host.boot/77/start/nonce"
    taken(store, "extract:a:0", owner)
    deaths.saw_exit(store, "host.boot", 77, -9)
    taken(store, "extract:a:0", "w2", alive=nobody_lives)
    started = [row.event for row in store.read("job-j") if isinstance(row.event, StageStarted)]
    assert started[-1].lost == "killed by SIGKILL"
    taken(store, "extract:a:0", "w3", alive=nobody_lives)
    refused = take(store, "extract:a:0", "w4", alive=nobody_lives)
    assert isinstance(refused, Refused)
    (gone,) = [row.event for row in store.read("job-j") if isinstance(row.event, StageQuarantined)]
    assert (gone.attempts, gone.lost) == (3, "ended without a word")
    assert gone.reason == "the worker died at it: 3 of 3 strikes, ended without a word"


def test_an_old_exit_of_the_same_pid_is_not_taken_for_this_one(store: Store) -> None:
    deaths.saw_exit(store, "host.boot", 77, -9)
    started_sync(store)
    taken(store, "extract:a:0", "host.boot/77/later/nonce", lease_ms=60_000)
    taken(store, "extract:a:0", "w2", alive=nobody_lives)
    started = [row.event for row in store.read("job-j") if isinstance(row.event, StageStarted)]
    assert started[-1].lost == "ended without a word"


# --- another chance --------------------------------------------------------------------------------
def refuse(store: Store, stage: str) -> None:
    outcomes.fail(store, taken(store, stage), error_type="Refused", code="c", message="m", retry_in_ms=None)


def test_b4_a_dead_stage_of_a_running_job_is_tried_again_with_what_was_skipped_for_it(store: Store) -> None:
    started_sync(store)
    refuse(store, "extract:a:1")
    assert [(one.job_id, one.stage) for one in dead_stages(store)] == [("j", "extract:a:1")]
    assert [row.stage for row in revive(store, "j")] == ["extract:a:1"]
    assert dead_stages(store) == []
    again = taken(store, "extract:a:1")
    assert (again.attempt, again.strikes) == (2, 1)
    job = load(store, "j")
    assert (job.stages["extract:a:1"].state, job.stages["integrate:a"].state) == ("running", "open")
    refuse_again = outcomes.fail(store, again, error_type="R", code="c", message="m", retry_in_ms=None)
    assert refuse_again is not None
    assert load(store, "j").stages["integrate:a"].state == "skipped"
    revive(store, "j")
    assert names(done(store, taken(store, "extract:a:1"))) == []
    assert names(done(store, taken(store, "extract:a:0"))) == ["integrate:a"]
    line = find(store, JOBS, "j")
    assert line is not None
    assert line.settled == 3


def test_a_dead_stage_is_not_revived_once_others_have_gone_on_without_it(store: Store) -> None:
    started_sync(store)
    refuse(store, "extract:a:1")
    done(store, taken(store, "extract:a:0"))
    done(store, taken(store, "integrate:b"))
    with pytest.raises(BadInput, match="gone on without extract:a:1"):
        revive(store, "j")
    assert load(store, "j").stages["extract:a:1"].state == "dead"
    done(store, taken(store, "publish:p"))
    done(store, taken(store, "finish"))


def lose_the_session(store: Store) -> None:
    sync_with_a_session(store)
    store.append(STREAM, [SessionQuarantined("j", 4, "extract:a:0", "killed")])
    cancel(store, "j")


def test_b4_retrying_gives_turns_back_and_asks_for_their_sync_in_one_transaction(store: Store) -> None:
    lose_the_session(store)
    lost = dead_sessions(store, job_id="j")
    assert [(one.turns.turn_from, one.turns.turn_to, one.turns.stage) for one in lost] == [(0, 4, "extract:a:0")]
    asked = retry(store, lost, "again", requested(scope="retry"))
    assert [row.stage for row in asked.freed] == ["index"]
    session = find(store, SESSIONS, STREAM)
    assert session is not None
    assert (session.waiting, session.next_turns, dead_sessions(store)) == (True, (0, 4), [])


def test_a_retry_that_cannot_ask_for_its_sync_changes_nothing(store: Store) -> None:
    lose_the_session(store)
    request_job(store, "again", requested())
    with pytest.raises(Exception, match="again"):
        retry(store, dead_sessions(store), "again", requested(scope="retry"))
    assert len(dead_sessions(store)) == 1


def test_dropping_keeps_the_reason_and_ends_the_question(store: Store) -> None:
    lose_the_session(store)
    drop(store, dead_sessions(store, project_id="p"), "not worth it")
    session = find(store, SESSIONS, STREAM)
    assert session is not None
    assert (dead_sessions(store), session.dead_turns, session.dead[0].dropped) == ([], 4, "not worth it")
    assert dead_sessions(store, project_id="other") == []


def test_the_end_of_a_job_waits_for_a_stage_that_is_tried_again(store: Store) -> None:
    request_job(store, "j", requested("ask"))
    refuse(store, "answer")
    assert [row.stage for row in pausing.startable(store)] == ["finish"]
    revive(store, "j")
    assert take(store, "finish") == Refused("waiting")
    assert names(done(store, taken(store, "answer"))) == ["finish"]
