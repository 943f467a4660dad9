"""Claims, settlement and sweeping, on every store: who may run, whose result counts, what is never lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lerim_jobs import ids
from lerim_jobs.errors import ConflictError, CorruptLog
from lerim_jobs.jobs import claims, outcomes
from lerim_jobs.jobs.claims import Claim, Refused
from lerim_jobs.jobs.closing import close_trace, delivered, traced_events, unclosed_jobs, undelivered_jobs
from lerim_jobs.jobs.job import load
from lerim_jobs.jobs.outcomes import Effect, End, Settled
from lerim_jobs.jobs.request import request_job
from lerim_jobs.jobs.sweep import sweep
from lerim_jobs.log.events import JobRequested, MemoryArchived, StageRequested, TraceClosed
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.store import StageRow, Store
from lerim_jobs.tracing.skeleton.spans import skeleton
from tests.contracts.test_views import spoil
from tests.memory_store import MemoryStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "log.sqlite3")
    yield made
    made.close()


def everyone_lives(owner: str) -> bool:
    return True


def nobody_lives(owner: str) -> bool:
    return False


def requested(kind: Any = "sync", scope: str = "all") -> JobRequested:
    return JobRequested(
        kind=kind,
        params={},
        scope=scope,
        requested_by="test",
        host="h",
        trace_id="t" * 32,
        root_span_id="s" * 16,
        start_ns=1,
    )


def take(store: Store, stage: str, owner: str = "w1", job: str = "j", **options: Any) -> Claim | Refused:
    return claims.claim(store, job, stage, owner, **{"alive": everyone_lives, "max_attempts": 3, **options})


def taken(store: Store, stage: str, owner: str = "w1", job: str = "j", **options: Any) -> Claim:
    got = take(store, stage, owner, job, **options)
    assert isinstance(got, Claim), got
    return got


def done(store: Store, held: Claim, **options: Any) -> Settled:
    settled = outcomes.complete(store, held, **{"output": {}, **options})
    assert settled is not None
    return settled


def names(settled: Settled | None) -> list[str]:
    return [row.stage for row in settled.freed] if settled else []


def fan_out() -> list[StageRequested]:
    return [
        StageRequested(stage="extract:a:0", queue="extract"),
        StageRequested(stage="extract:a:1", queue="extract"),
        StageRequested(stage="integrate:a", queue="agent", needs=["extract:a:0", "extract:a:1"], lane="p"),
        StageRequested(stage="integrate:b", queue="agent", needs=["extract:a:0"], after=["integrate:a"], lane="p"),
        StageRequested(stage="publish:p", queue="host.h", after=["integrate:a", "integrate:b"]),
    ]


def started_sync(store: Store) -> list[str]:
    request_job(store, "j", requested())
    return names(done(store, taken(store, "index"), next_stages=fan_out()))


def test_a_job_runs_its_stages_in_the_order_of_its_plan(store: Store) -> None:
    assert started_sync(store) == ["extract:a:0", "extract:a:1"]
    assert names(done(store, taken(store, "extract:a:0"))) == []
    assert names(done(store, taken(store, "extract:a:1"))) == ["integrate:a"]
    assert isinstance(take(store, "integrate:b"), Refused)
    assert names(done(store, taken(store, "integrate:a"))) == ["integrate:b"]
    assert names(done(store, taken(store, "integrate:b"))) == ["publish:p"]
    assert names(done(store, taken(store, "publish:p"))) == ["finish"]
    end = End("succeeded", {"n": 1})
    assert done(store, taken(store, "finish"), end=end).ended
    assert load(store, "j").finished is not None
    assert store.stages("j") == []


def test_a_live_lease_refuses_everyone_else(store: Store) -> None:
    request_job(store, "j", requested())
    taken(store, "index", "w1")
    assert take(store, "index", "w2") == Refused("leased")


def test_a_doubled_hint_after_completion_changes_nothing(store: Store) -> None:
    request_job(store, "j", requested())
    done(store, taken(store, "index"))
    position = store.position()
    assert take(store, "index") == Refused("done")
    assert store.position() == position


def test_b3_a_dead_process_loses_its_lease_at_once(store: Store) -> None:
    request_job(store, "j", requested())
    taken(store, "index", "w1")
    second = taken(store, "index", "w2", alive=nobody_lives)
    assert (second.attempt, second.takeover) == (2, True)


def test_b3_an_expired_lease_is_taken_over_and_the_late_result_is_dropped(store: Store) -> None:
    request_job(store, "j", requested())
    late = taken(store, "index", "w1", lease_ms=-1)
    second = taken(store, "index", "w2")
    assert second.takeover
    archived = Effect("memory-m", [MemoryArchived(memory_id="m")])
    assert outcomes.complete(store, late, output={}, effects=[archived]) is None
    assert outcomes.fail(store, late, error_type="E", code="c", message="", retry_in_ms=0) is None
    assert outcomes.release(store, late) is False
    assert claims.renew(store, [late]) == [late]
    assert store.read("memory-m") == []
    done(store, second, effects=[archived])
    assert len(store.read("memory-m")) == 1


def test_effects_and_completion_are_one_transaction(store: Store) -> None:
    request_job(store, "j", requested())
    held = taken(store, "index")
    store.append("memory-m", [MemoryArchived(memory_id="m")])
    with pytest.raises(ConflictError):
        outcomes.complete(
            store, held, output={}, effects=[Effect("memory-m", [MemoryArchived(memory_id="m")], expected=0)]
        )
    assert load(store, "j").stages["index"].state == "running"
    assert len(store.read("memory-m")) == 1
    done(store, held)


def test_b3_a_checkpoint_keeps_what_an_attempt_did_so_far_and_a_late_one_changes_nothing(store: Store) -> None:
    request_job(store, "j", requested())
    late = taken(store, "index", "w1", lease_ms=-1)
    first = Effect("memory-m", [MemoryArchived(memory_id="m")], expected=0)
    assert outcomes.checkpoint(store, late, effects=[first], blobs=[b"one"], meta={"host": "h"})
    (row,) = store.read("memory-m")
    assert (row.meta["job_id"], row.meta["stage"], row.meta["attempt"], row.meta["host"]) == ("j", "index", 1, "h")
    assert store.blob(ids.digest(b"one")) == b"one"
    assert load(store, "j").stages["index"].state == "running"
    second = taken(store, "index", "w2")
    more = Effect("memory-m", [MemoryArchived(memory_id="m")], expected=1)
    assert not outcomes.checkpoint(store, late, effects=[more], blobs=[b"two"])
    assert len(store.read("memory-m")) == 1
    with pytest.raises(CorruptLog):
        store.blob(ids.digest(b"two"))
    assert outcomes.checkpoint(store, second, effects=[more])
    done(store, second)
    assert not outcomes.checkpoint(store, second, effects=[Effect("memory-m", [MemoryArchived(memory_id="m")])])
    assert len(store.read("memory-m")) == 2


def test_a_checkpoint_is_kept_as_a_whole_or_not_at_all(store: Store) -> None:
    request_job(store, "j", requested())
    held = taken(store, "index")
    store.append("memory-b", [MemoryArchived(memory_id="b")])
    effects = [Effect(f"memory-{name}", [MemoryArchived(memory_id=name)], expected=0) for name in "ab"]
    with pytest.raises(ConflictError):
        outcomes.checkpoint(store, held, effects=effects, blobs=[b"one"])
    assert store.read("memory-a") == []
    done(store, held)


def test_a_failed_attempt_is_due_again_when_it_says(store: Store) -> None:
    request_job(store, "j", requested())
    outcomes.fail(store, taken(store, "index"), error_type="E", code="c", message="m", retry_in_ms=60_000)
    assert take(store, "index") == Refused("not due yet")
    row = store.stage("j", "index")
    assert row is not None
    assert 55_000 < row.due_ms - store.now_ms() <= 60_000


def test_b4_attempts_that_die_without_a_word_count_and_end_in_quarantine(store: Store) -> None:
    request_job(store, "j", requested())
    for _ in range(3):
        taken(store, "index", lease_ms=-1)
    refused = take(store, "index")
    assert isinstance(refused, Refused)
    assert refused.reason == "quarantined"
    assert [row.stage for row in refused.freed] == ["finish"]
    assert load(store, "j").stages["index"].state == "dead"


def test_handing_back_is_not_punished(store: Store) -> None:
    request_job(store, "j", requested())
    for attempt in range(1, 8):
        held = taken(store, "index")
        assert held.attempt == attempt
        assert outcomes.release(store, held)
    assert taken(store, "index").strikes == 1


def test_a_dead_stage_skips_what_needs_it_and_lets_the_rest_go_on(store: Store) -> None:
    started_sync(store)
    failed = outcomes.fail(
        store, taken(store, "extract:a:1"), error_type="Refused", code="model_refused", message="m", retry_in_ms=None
    )
    assert names(failed) == []
    assert names(done(store, taken(store, "extract:a:0"))) == ["integrate:b"]
    job = load(store, "j")
    assert (job.stages["extract:a:1"].state, job.stages["integrate:a"].state) == ("dead", "skipped")
    assert names(done(store, taken(store, "integrate:b"))) == ["publish:p"]


def test_a_lane_runs_one_stage_at_a_time_over_all_jobs(store: Store) -> None:
    lane = [StageRequested(stage="curate:p", queue="agent", lane="p")]
    for job in ("j", "k"):
        request_job(store, job, requested(scope=job))
        done(store, taken(store, "index", job=job), next_stages=lane)
    first = taken(store, "curate:p", job="j")
    assert take(store, "curate:p", job="k") == Refused("lane busy")
    settled = done(store, first)
    assert [(row.job_id, row.stage) for row in settled.freed] == [("j", "finish"), ("k", "curate:p")]
    taken(store, "curate:p", job="k")


def test_a_finish_that_cannot_run_fails_the_job(store: Store) -> None:
    request_job(store, "j", requested())
    done(store, taken(store, "index"))
    settled = outcomes.fail(store, taken(store, "finish"), error_type="E", code="bug", message="boom", retry_in_ms=None)
    assert settled is not None
    assert settled.ended
    finished = load(store, "j").finished
    assert finished is not None
    assert finished.status == "failed"


def test_requesting_the_same_job_twice_adds_nothing(store: Store) -> None:
    assert not request_job(store, "j", requested()).repeated
    position = store.position()
    again = request_job(store, "j", requested())
    assert (again.repeated, again.freed, store.position()) == (True, [], position)


def test_a_scope_with_an_unfinished_job_is_not_requested_again(store: Store) -> None:
    request_job(store, "j", requested())
    second = request_job(store, "k", requested(), skip_if_open=True)
    assert (second.job_id, second.repeated) == ("j", True)
    assert not request_job(store, "l", requested(scope="other"), skip_if_open=True).repeated
    done(store, taken(store, "index"))
    done(store, taken(store, "finish"), end=End("succeeded", {}))
    assert not request_job(store, "m", requested(), skip_if_open=True).repeated


def test_big_outputs_are_kept_and_come_back_whole(store: Store) -> None:
    request_job(store, "j", requested())
    output = {"text": "x" * 40_000}
    done(store, taken(store, "index"), output=output)
    assert load(store, "j").stages["index"].output == output
    assert max(len(row.data) for row in store.read("job-j")) < 17_000


def test_two_last_windows_finishing_together_request_the_next_stage_once(store: Store) -> None:
    started_sync(store)
    held = [taken(store, "extract:a:0"), taken(store, "extract:a:1")]
    freed: list[str] = []

    def finish(one: Claim) -> None:
        freed.extend(names(done(store, one)))
        if isinstance(store, SqliteStore):
            store.close()

    threads = [threading.Thread(target=finish, args=(one,)) for one in held]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert freed == ["integrate:a"]


def test_a_sweep_resends_what_a_dead_worker_left_and_only_once(store: Store) -> None:
    request_job(store, "j", requested())
    taken(store, "index", "w1", lease_ms=-1)
    backdate(store, 10_000)
    sent: list[str] = []
    for _ in range(2):
        sweep(store, lambda row: sent.append(row.stage), alive=everyone_lives, queue_length=lambda queue: 0)
    assert sent == ["index"]


def test_two_sweeps_at_once_send_a_stage_once(store: Store) -> None:
    request_job(store, "j", requested())
    taken(store, "index", "w1")
    backdate(store, 10_000)
    sent: list[str] = []
    inner: list[int] = []

    def alive(owner: str) -> bool:
        if not inner:
            inner.append(1)
            sweep(store, lambda row: sent.append("inner"), alive=nobody_lives, queue_length=lambda queue: 0)
        return False

    sweep(store, lambda row: sent.append("outer"), alive=alive, queue_length=lambda queue: 0)
    assert sent == ["inner"]


def test_a_sweep_resends_waiting_stages_soon_when_the_queue_lost_everything(store: Store) -> None:
    request_job(store, "j", requested())
    backdate(store, 5_000)
    assert swept(store, length=1) == []
    assert swept(store, length=0) == ["index"]


def test_a_queue_that_cannot_be_asked_gets_nothing_twice(store: Store) -> None:
    request_job(store, "j", requested())
    backdate(store, 60_000)
    assert swept(store, length=-1) == []


def test_a_message_that_is_missing_among_others_is_sent_again_after_a_while(store: Store) -> None:
    for job in ("j", "k", "l"):
        request_job(store, job, requested("ask", scope=job))
        backdate(store, 5_000, job=job)
    assert swept(store, length=2) == []
    for job in ("j", "k", "l"):
        backdate(store, 60_000, job=job)
    assert len(swept(store, length=2)) == 1


def test_a_lost_hint_is_found_behind_a_thousand_others_and_a_backlog_sends_nothing_twice(store: Store) -> None:
    """1,200 ready stages wait in their queue; the one of another queue, requested last, has lost its message."""
    request_job(store, "big", requested())
    plan = [StageRequested(stage=f"extract:{n:04}:0", queue="extract") for n in range(1200)]
    done(store, taken(store, "index", job="big"), next_stages=plan)
    request_job(store, "ask-1", requested("ask", scope="a"))
    backdate(store, 3_000, job="ask-1")
    queues = {"extract": 1200, "ask": 0}
    sent = [(row.job_id, row.stage) for _ in range(2) for row in resent(store, queues)]
    assert sent == [("ask-1", "answer")]
    again: list[str] = []
    for _ in range(20):  # ten minutes in which nobody takes any of them, and seven messages get lost
        backdate(store, 31_000, job="big")
        queues["extract"] = 1193 + len(again)
        again += [row.stage for row in resent(store, queues) if row.job_id == "big"]
    assert len(again) == 7


def test_a_time_that_a_wrong_clock_wrote_holds_nothing_up(store: Store) -> None:
    request_job(store, "j", requested())
    hour = 3_600_000
    backdate(store, -20 * hour)  # parked until tomorrow: meant
    assert swept(store, length=0) == []
    backdate(store, -40 * hour)
    assert swept(store, length=1) == ["index"]
    assert taken(store, "index").stage == "index"


def test_a_trace_is_closed_by_one_process(store: Store) -> None:
    request_job(store, "j", requested())
    done(store, taken(store, "index"))
    done(store, taken(store, "finish"), end=End("succeeded", {}))
    emitted: list[int] = []

    def emit(events: list[Any]) -> int:
        emitted.append(len(events))
        assert not close_trace(store, "j", "other", emit, alive=everyone_lives)
        return 7

    assert unclosed_jobs(store) == ["j"]
    assert close_trace(store, "j", "me", emit, alive=everyone_lives)
    assert not close_trace(store, "j", "me", emit, alive=everyone_lives)
    assert (len(emitted), unclosed_jobs(store)) == (1, [])
    assert store.read("job-j")[-1].event == TraceClosed(spans=7)


def test_a_closer_that_died_is_replaced(store: Store) -> None:
    request_job(store, "j", requested())
    done(store, taken(store, "index"))
    done(store, taken(store, "finish"), end=End("succeeded", {}))
    with pytest.raises(KeyboardInterrupt):
        close_trace(store, "j", "dead", interrupted, alive=everyone_lives)
    assert not close_trace(store, "j", "me", lambda events: 1, alive=everyone_lives)
    assert close_trace(store, "j", "me", lambda events: 1, alive=nobody_lives)


def test_a3_a4_decisions_of_a_large_output_are_in_the_trace(store: Store) -> None:
    request_job(store, "j", requested("maintain"), projects=["p"])
    decay = [
        {"memory_id": f"m{n}", "confidence": 0.5, "days": n, "effective": 0.4, "archive": False} for n in range(150)
    ]
    decayed = [{"memory_id": f"m{n}", "title": "t" * 100, "reason": "long unused"} for n in range(40)]
    done(store, taken(store, "curate:p"), output={"decay": decay, "decayed": decayed, "dropped": decayed})
    seen = [span.name for span in skeleton(traced_events(store, "j"))]
    assert "decay" not in [span.name for span in skeleton(store.read("job-j"))]  # it is kept as a blob
    assert (seen.count("decay"), seen.count("memory archive")) == (150, 40)
    assert "candidate dropped" not in seen  # not what this stage decides


def test_a_closed_trace_that_did_not_arrive_is_given_to_one_other(store: Store) -> None:
    for job in ("j", "k"):
        request_job(store, job, requested(scope=job))
        done(store, taken(store, "index", job=job))
        done(store, taken(store, "finish", job=job), end=End("succeeded", {}))
        assert close_trace(store, job, "me", lambda events: 1, alive=everyone_lives, remote=True)
    assert undelivered_jobs(store, alive=everyone_lives) == []
    delivered(store, ["k"])
    assert undelivered_jobs(store, alive=nobody_lives) == ["j"]
    assert undelivered_jobs(store, alive=nobody_lives) == []


def interrupted(events: list[Any]) -> int:
    raise KeyboardInterrupt


def resent(store: Store, queues: dict[str, int]) -> list[StageRow]:
    """What a sweep sends; `queues` are how many messages wait in each."""
    sent: list[StageRow] = []
    sweep(store, sent.append, alive=everyone_lives, queue_length=lambda queue: queues.get(queue, 0))
    return sent


def swept(store: Store, *, length: int) -> list[str]:
    """The same with one length for every queue."""
    sent: list[str] = []
    sweep(store, lambda row: sent.append(row.stage), alive=everyone_lives, queue_length=lambda queue: length)
    return sent


def backdate(store: Store, by_ms: int, job: str = "j") -> None:
    """Make every stage look as if it had been sent and due `by_ms` ago."""
    with store.write() as tx:
        for row in tx.stages(job):
            if row.state in ("ready", "running"):
                now = tx.now_ms()
                tx.save_stage(msgspec.structs.replace(row, due_ms=now - by_ms, sent_ms=now - by_ms))


# --- retention -------------------------------------------------------------------------------------


def test_a_trace_with_an_event_that_cannot_be_read_is_closed_without_it(store: Store) -> None:
    request_job(store, "j", requested("ask"))
    done(store, taken(store, "answer"))
    done(store, taken(store, "finish"), end=End("succeeded", {}))
    lost = next(row.position for row in store.read("job-j") if row.type == "StageCompleted")
    spoil(store, lost)
    assert close_trace(store, "j", "me", lambda events: len(skeleton(events)), alive=everyone_lives)
    assert unclosed_jobs(store) == []
    assert store.read("job-j")[-1].as_(TraceClosed).spans > 2
