"""Acceptance B8: each of the six zeros is found not to be zero when something is wrong, and only then."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lerim_jobs.audit import leftover_files, leftover_processes, leftover_rows
from lerim_jobs.audit.accounting import unaccounted
from lerim_jobs.audit.audit import audit, to_json
from lerim_jobs.audit.finding import Place, Zero
from lerim_jobs.audit.money import overspend
from lerim_jobs.audit.paid import paid_twice
from lerim_jobs.audit.traces import split_traces
from lerim_jobs.config import Budget, Settings
from lerim_jobs.jobs import budget
from lerim_jobs.jobs.caps import Wish
from lerim_jobs.jobs.parking import PARKED
from lerim_jobs.jobs.request import request_job
from lerim_jobs.jobs.settlement import UNCLOSED, end_job, journal_view
from lerim_jobs.log.events import (
    CAPS_STREAM,
    CapsChanged,
    JobRequested,
    MemoryAdded,
    MemoryEdited,
    ModelCalled,
    ProjectAdded,
    Quote,
    SessionExtracted,
    SessionIndexed,
    SessionQuarantined,
    SessionScheduled,
    StageCompleted,
    StageFailed,
    TraceClosed,
)
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.store import StageRow
from lerim_jobs.machine import supervision
from lerim_jobs.memory.checks.evidence import unsupported
from lerim_jobs.paths import Home, memory_dir
from lerim_jobs.sessions import transcript
from lerim_jobs.sessions.transcript import Segment, Turn
from lerim_jobs.tracing.local.store import SpanStore
from lerim_jobs.tracing.skeleton.spans import skeleton

TRACE, ROOT = "0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"
SESSION = "session-claude-code-1"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(Home(tmp_path / "h").ensure().log)
    yield made
    made.close()


@pytest.fixture
def place(store: SqliteStore, tmp_path: Path) -> Place:
    return Place(Home(tmp_path / "h"), store, Settings(), {}, "laptop", workers_run=True, grace_s=0.0)


def what(zero: Zero) -> list[str]:
    return [f"{one.id}: {one.what}" for one in zero.breaches]


def ask_for(store: SqliteStore, job_id: str, *, kind: Any = "sync", sampled: bool = False) -> None:
    event = JobRequested(kind, {}, "all", "cli", "laptop", TRACE, ROOT, store.now_ms() * 1_000_000, sampled)
    request_job(store, job_id, event)


def finish(store: SqliteStore, job_id: str, *stages: str, status: Any = "succeeded", index: Any = None) -> None:
    with store.write() as tx:
        for stage in stages:
            output = index if index and stage == "index" else {}
            tx.append(f"job-{job_id}", [StageCompleted(stage, 1, output)])
        end_job(tx, job_id, status=status, result={}, error=None, meta={})
        tx.append(f"job-{job_id}", [TraceClosed(1)])
        tx.put_doc(UNCLOSED, job_id, None)


def call(**changes: Any) -> ModelCalled:
    about: dict[str, Any] = {
        "stage": "extract:a:0",
        "attempt": 1,
        "role": "extract",
        "request_hash": "h",
        "occurrence": 0,
        "answer_blob": "",
        "model_asked": "m",
        "model": "m",
        "provider": "openai",
        "tokens_in": 10,
        "tokens_out": 1,
        "duration_ms": 100,
        "cost_usd": 0.6,
    }
    return ModelCalled(**about | changes)


def indexed(turn_from: int, turn_to: int, blob: str = "b", prompts: int = 1) -> SessionIndexed:
    return SessionIndexed(
        "claude-code", "one", "/s.jsonl", "laptop", 1, 1, 1, 1, "t", turn_from, turn_to, blob, human_prompts=prompts
    )


# --- paid twice ------------------------------------------------------------------------------------
def test_an_answer_that_was_there_and_is_asked_for_again_is_paid_twice(store: SqliteStore) -> None:
    store.append("job-a", [call(asked_version=0), call(attempt=2, asked_version=1)])
    assert len(paid_twice(store).breaches) == 1


def test_two_calls_in_flight_at_once_are_counted_beside_it(store: SqliteStore) -> None:
    store.append("job-a", [call(asked_version=0), call(attempt=2, asked_version=0)])
    store.append("job-b", [call(asked_version=0), call(asked_version=1, occurrence=1), call(stage="summarize:a")])
    zero = paid_twice(store)
    assert (zero.breaches, zero.checked, zero.also) == ([], {"model_calls": 5}, {"in_flight_twice": 1})


# --- unaccounted -----------------------------------------------------------------------------------
def test_b8_turns_extracted_dead_and_waiting_add_up(place: Place) -> None:
    store = place.store
    store.append(SESSION, [indexed(0, 4), SessionScheduled("a", "p", 0, 4), SessionExtracted("a", 4)])
    store.append(SESSION, [indexed(4, 7), SessionScheduled("b", "p", 4, 7), SessionQuarantined("b", 7, "x", "broken")])
    store.append(SESSION, [indexed(7, 9)])
    store.append("session-codex-2", [indexed(0, 3, prompts=0)])
    zero = unaccounted(place)
    assert zero.breaches == []
    assert zero.checked["turns"] == 12
    assert (zero.also["turns_extracted"], zero.also["turns_dead"]) == (4, 3)
    assert zero.also["turns_waiting: no registered project"] == 2
    assert zero.also["turns_skipped: nobody spoke"] == 3


def test_turns_of_a_finished_job_that_said_nothing_of_them_are_unaccounted(place: Place) -> None:
    ask_for(store := place.store, "a")  # type: ignore[arg-type]
    store.append(SESSION, [indexed(0, 4), SessionScheduled("a", "p", 0, 4)])
    assert unaccounted(place).breaches == []
    finish(store, "a", "index", "finish")  # type: ignore[arg-type]
    assert what(unaccounted(place)) == ["session one: a succeeded and never said what became of turns 0 to 3"]


@pytest.mark.parametrize(
    "events",
    [
        [indexed(0, 4), indexed(5, 6)],
        [indexed(0, 4), indexed(2, 6)],
        [indexed(0, 4), SessionScheduled("a", "p", 0, 9)],
        [indexed(0, 4), SessionExtracted("a", 4)],
    ],
)
def test_a_gap_an_overlap_or_a_settlement_from_nowhere_is_unaccounted(place: Place, events: list[Any]) -> None:
    place.store.append(SESSION, events)
    assert len(unaccounted(place).breaches) == 1


def test_stages_settle_once_and_a_job_ends_with_all_of_them(place: Place, store: SqliteStore) -> None:
    ask_for(store, "good")
    finish(store, "good", "index", "finish")
    assert unaccounted(place).breaches == []
    ask_for(store, "twice")
    finish(store, "twice", "index", "index", "finish")
    ask_for(store, "early")
    finish(store, "early", "finish")
    ask_for(store, "stuck")
    with store.write() as tx:
        tx.drop_stages("stuck")
    ask_for(store, "late")
    failed = StageFailed(stage="index", attempt=1, error_type="X", code="bug", message="")
    store.append("job-late", [StageCompleted("index", 2, {}), failed])
    finish(store, "late", "finish")
    store.append("job-late", [StageCompleted(stage="index", attempt=1)])
    said = "\n".join(what(unaccounted(place)))
    assert "twice index: it was completed again" in said
    assert "late index: it was settled, and failed again in attempt 1" in said
    assert "late: StageCompleted stands behind its end" in said
    assert "early: it ended while 1 of its stages were open: index" in said
    assert "stuck: it is not finished, and none of its stages can run" in said
    assert "good" not in said


def test_b8_files_found_are_read_unchanged_or_skipped_with_a_reason(place: Place, store: SqliteStore) -> None:
    fine = {"found": 3, "indexed": 1, "unchanged": 1, "skipped": 1, "skipped_reasons": {"a symbolic link": 1}}
    for job_id, index in (("fine", fine), ("lost", fine | {"found": 4}), ("mute", fine | {"skipped_reasons": {}})):
        ask_for(store, job_id)
        finish(store, job_id, "index", "finish", index=index)
    said = what(unaccounted(place))
    assert [line.partition(":")[0] for line in said] == ["lost", "mute"]


# --- traces ----------------------------------------------------------------------------------------
def traced(place: Place, store: SqliteStore) -> tuple[SpanStore, list[Any]]:
    ask_for(store, "a", sampled=True)
    finish(store, "a", "index", "finish")
    spans = SpanStore(place.home.traces)
    bones = skeleton(store.read("job-a"))
    spans.put(bones)
    return spans, bones


def test_a_whole_trace_is_no_breach_also_when_retention_took_its_spans(place: Place, store: SqliteStore) -> None:
    spans, _ = traced(place, store)
    assert (split_traces(place).breaches, split_traces(place).checked["traces"]) == ([], 1)
    spans.prune(2**62)
    assert split_traces(place).breaches == []


@pytest.mark.parametrize(
    "broken",
    [
        {"span_id": "1" * 16, "parent_span_id": "2" * 16},
        {"span_id": "1" * 16, "parent_span_id": None},
        {"end_ns": 9},
    ],
)
def test_an_orphan_a_second_root_and_a_wrong_length_split_a_trace(
    place: Place, store: SqliteStore, broken: dict[str, Any]
) -> None:
    spans, bones = traced(place, store)
    spans.put([msgspec.structs.replace(bones[0], **broken)])
    assert len(split_traces(place).breaches) == 1


def test_an_ended_job_whose_trace_nobody_closes(place: Place, store: SqliteStore) -> None:
    ask_for(store, "a", sampled=True)
    with store.write() as tx:
        end_job(tx, "a", status="failed", result={}, error=None, meta={})
    assert len(split_traces(place).breaches) == 1
    asleep = split_traces(msgspec.structs.replace(place, workers_run=False))
    assert (asleep.breaches, asleep.also) == ([], {"traces_to_close": 1})


# --- memories --------------------------------------------------------------------------------------
def test_a_memory_needs_a_quote_that_is_in_the_transcript_unless_a_person_wrote_it(store: SqliteStore) -> None:
    blob = store.put_blob(
        transcript.encode(Segment("claude-code", "one", [Turn(0, "user", "we  keep\nPostgres", "k")]))
    )
    store.append(SESSION, [indexed(0, 1, blob=blob)])

    def add(memory_id: str, *quotes: str, by_hand: bool = False) -> None:
        proof = [Quote(text, "one", SESSION, "claude-code", 0, "user") for text in quotes]
        event = MemoryAdded(memory_id, "p", "decision", "t", "b", 0.5, quotes=proof, by_hand=by_hand)
        store.append(f"memory-{memory_id}", [event])

    add("proved", "we keep Postgres")
    add("hand", by_hand=True)
    add("bare")
    add("lie", "we keep Postgres", "we drop Postgres")
    checked, found = unsupported(store)
    assert checked == 3
    assert sorted(found) == [
        ("bare", "it has no quote"),
        ("lie", "its quote is not what the user said in turn 0 of session one"),
    ]
    store.append("memory-lie", [MemoryEdited("lie", "t", "mine", 0.5)])
    assert [key for key, _ in unsupported(store)[1]] == ["bare"]


# --- money -----------------------------------------------------------------------------------------
def caps(**given: Any) -> CapsChanged:
    none: dict[str, Any] = dict.fromkeys(
        ("per_job_usd", "per_day_usd", "per_job_unpriced_tokens", "per_day_unpriced_tokens")
    )
    return CapsChanged(**{**none, "per_role_usd": {}, **given})


def spend(store: SqliteStore, job_id: str, caps_version: int, **changes: Any) -> None:
    event = call(caps_version=caps_version, **changes)
    with store.write() as tx:
        tx.append(f"job-{job_id}", [event])
        budget.settle(tx, [], event, job_id)


@pytest.mark.parametrize(
    ("cap", "changes", "setting"),
    [
        ({"per_job_usd": 1.0}, {}, "per_job_usd"),
        ({"per_day_usd": 1.0}, {}, "per_day_usd"),
        ({"per_role_usd": {"extract": 1.0}}, {}, "per_role_usd.extract"),
        ({"per_job_unpriced_tokens": 20.0}, {"cost_usd": None}, "per_job_unpriced_tokens"),
        ({"per_day_unpriced_tokens": 20.0}, {"cost_usd": None}, "per_day_unpriced_tokens"),
    ],
)
def test_a_sum_above_the_cap_that_held(
    store: SqliteStore, cap: dict[str, Any], changes: dict[str, Any], setting: str
) -> None:
    store.append(CAPS_STREAM, [caps(**cap)])
    spend(store, "a", 1, **changes)
    assert overspend(store).breaches == []
    spend(store, "a", 1, **changes)
    assert [setting in line for line in what(overspend(store))] == [True]


def test_a_raised_cap_allows_more_and_a_lowered_one_forgives_what_was_let_out_before(store: SqliteStore) -> None:
    store.append(CAPS_STREAM, [caps(per_day_usd=1.0), caps(per_day_usd=2.0)])
    spend(store, "a", 1)
    spend(store, "a", 1)
    store.append(CAPS_STREAM, [caps(per_day_usd=0.5)])
    spend(store, "b", 2)
    assert overspend(store).breaches == []
    spend(store, "b", 3)
    assert len(overspend(store).breaches) == 1


def test_the_sum_that_caps_look_at_must_be_the_log_s(store: SqliteStore) -> None:
    spend(store, "a", 0)
    assert overspend(store).breaches == []
    with store.write() as tx:
        tx.append("job-a", [call()])
    assert sorted(line.partition(":")[0] for line in what(overspend(store)))[-1] == "job/a"


def test_admission_writes_the_caps_down_once_per_change(store: SqliteStore) -> None:
    for number, cap in enumerate((5.0, 5.0, 7.0)):
        wish = Wish("a", "extract", "openai", 0.1, 10, "me", 1000)
        assert not budget.admit(store, str(number), wish, Settings(budget=Budget(cap)), alive=lambda owner: True)
    assert [row.as_(CapsChanged).per_job_usd for row in store.read(CAPS_STREAM)] == [5.0, 7.0]


# --- orphans ---------------------------------------------------------------------------------------
def found(look: Callable[[Place], tuple[str, int, list[Any]]], place: Place) -> list[str]:
    return [one.id for one in look(place)[2]]


def test_a_blob_without_an_event(place: Place, store: SqliteStore) -> None:
    known, stray = store.put_blob(b"known"), store.put_blob(b"stray")
    store.append("job-a", [call(answer_blob=known)])
    assert found(leftover_rows.blobs, place) == [f"blob {stray}"]


def test_documents_of_jobs_that_are_over(place: Place, store: SqliteStore) -> None:
    ask_for(store, "a")
    with store.write() as tx:
        for job_id in ("a", "gone"):
            tx.put_doc(journal_view(job_id), "k", b"x")
            tx.put_doc(budget.SPENT, f"job/{job_id}", b"{}")
            tx.put_doc(PARKED, f"{job_id}/index", b"{}")
    assert found(leftover_rows.documents, place) == ["journal of gone", "parked gone/index", "sum job/gone"]


def test_leases_and_reservations_of_the_dead_while_workers_run(place: Place, store: SqliteStore) -> None:
    from lerim_jobs.machine import identity

    machine = identity.me().split("/")[0]
    gone = f"{machine}/999999999/1/x"
    with store.write() as tx:
        for stage, owner in (("dead", gone), ("alive", identity.me())):
            until_ms = tx.now_ms() + 9000
            row = StageRow("a", stage, "ask", "running", attempt=1, owner=owner, lease_until_ms=until_ms)
            tx.add_stages([row], [])
    for key, hold_ms in (("over", -60_000), ("open", 60_000)):
        budget.admit(store, key, Wish("a", "lead", "x", 0.1, 1, gone, hold_ms), Settings(), alive=lambda owner: False)
        if key == "over":
            assert found(leftover_rows.reservations, place) == ["reservation over"]
    assert found(leftover_rows.leases, place) == ["a dead"]
    assert found(leftover_rows.leases, msgspec.structs.replace(place, workers_run=False)) == []


def test_expired_reservations_are_forgotten_by_the_sweep(place: Place, store: SqliteStore) -> None:
    wish = Wish("a", "lead", "x", 0.1, 1, "me", -60_000)
    budget.admit(store, "over", wish, Settings(), alive=lambda owner: True)
    assert (budget.expire(store), budget.expire(store)) == (1, 0)
    assert found(leftover_rows.reservations, place) == []


def test_half_written_files_and_dead_sockets(place: Place, store: SqliteStore, tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    store.append("project-p", [ProjectAdded("p", "shop", str(shop), "laptop")])
    kept = memory_dir(shop) / "decisions"
    kept.mkdir(parents=True)
    for name in ("one.md", ".lerim-x.tmp"):
        (kept / name).write_text("x")
    (place.home.run / "w.new").write_text("x")
    with socket.socket(socket.AF_UNIX) as alive, socket.socket(socket.AF_UNIX) as dead:
        alive.bind(str(place.home.run / "alive.sock"))
        alive.listen()
        dead.bind(str(place.home.run / "dead.sock"))
        names = sorted(Path(path).name for path in found(leftover_files.temporary_files, place))
        assert names == [".lerim-x.tmp", "w.new"]
        assert [Path(path).name for path in found(leftover_files.sockets, place)] == ["dead.sock"]
    assert found(leftover_files.temporary_files, msgspec.structs.replace(place, grace_s=60.0)) == []


@pytest.mark.parametrize(
    "marks",
    [
        {supervision.MARK: "of-yesterday"},
        {"LERIM_WATCH_PARENT": "1", "LERIM_WATCHED_PID": "999999999", "LERIM_TEMPORARY_WORKER": "1"},
    ],
)
def test_a_process_whose_supervisor_or_command_is_gone(place: Place, marks: dict[str, str]) -> None:
    sleep = [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(60)"]
    env = {**os.environ, "LERIM_HOME": str(place.home.root)}
    with (
        subprocess.Popen(sleep, env=env | marks, stdout=subprocess.PIPE) as ours,
        subprocess.Popen(sleep, env=env, stdout=subprocess.PIPE) as theirs,
    ):
        assert ours.stdout is not None
        assert theirs.stdout is not None
        ours.stdout.readline(), theirs.stdout.readline()
        try:
            assert found(leftover_processes.processes, place) == [f"process {ours.pid}"]
        finally:
            ours.kill()
            theirs.kill()


# --- the whole -------------------------------------------------------------------------------------
def test_b8_an_empty_log_is_all_zeros_with_the_promised_fields(place: Place, store: SqliteStore) -> None:
    report = to_json(audit(place.home, store, Settings(), {}))
    names = ("paid_twice", "unaccounted", "split_traces", "unsupported_memories", "overspend", "orphans")
    assert [report[name] for name in names] == [0] * 6
    assert report["ok"] is True
    assert report["checked"]["model_calls"] == 0


def test_what_is_right_a_moment_later_was_only_in_motion(place: Place, store: SqliteStore) -> None:
    ask_for(store, "a")
    with store.write() as tx:
        rows = tx.stages("a")
        tx.drop_stages("a")

    def mend(seconds: float) -> None:
        with store.write() as tx:
            tx.add_stages(rows, [])

    assert audit(place.home, store, Settings(), {}, sleep=mend).ok
    with store.write() as tx:
        tx.drop_stages("a")
    found = audit(place.home, store, Settings(), {}, patience_s=0.05)
    assert not found.ok
    assert to_json(found)["unaccounted"] == 3
