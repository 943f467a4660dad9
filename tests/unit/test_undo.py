"""History, undo and looking back, on the in-memory store."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from lerim_jobs.errors import BadInput, ConflictError
from lerim_jobs.log.events import (
    Event,
    MemoryAdded,
    MemoryArchived,
    MemoryEdited,
    MemoryMerged,
    MemoryRedacted,
    MemoryRestored,
    MemoryUpdated,
    Quote,
)
from lerim_jobs.log.store import Store
from lerim_jobs.memory.history.told import history
from lerim_jobs.memory.history.undo import UndoPlan, of_job, of_memory, undo
from lerim_jobs.memory.memory import Memory, content_hash, fold
from lerim_jobs.memory.search.asof import MemoriesThen, as_of_ms, memories_at
from tests.memory_store import MemoryStore

QUOTE = Quote("we use tabs", "s1", "session-codex-1", "codex", 4, "user", 5)


def job(job_id: str, stage: str = "integrate:k") -> dict[str, Any]:
    return {"job_id": job_id, "stage": stage, "attempt": 1, "trace_id": f"trace-{job_id}"}


def added(memory_id: str, title: str = "Tabs") -> MemoryAdded:
    return MemoryAdded(memory_id, "p", "decision", title, f"{title} it is.", 0.8, ["style"], [QUOTE])


def updated(memory_id: str, title: str) -> MemoryUpdated:
    return MemoryUpdated(memory_id, title, f"{title}, always.", 0.9, ["style", "new"], reason="better words")


@pytest.fixture
def store() -> Store:
    ticks = count(1000, 1000)
    return MemoryStore(clock=lambda: next(ticks))


def put(store: Store, memory_id: str, *events: Event, meta: dict[str, Any] | None = None) -> None:
    store.append(f"memory-{memory_id}", list(events), meta=meta)


def memory(store: Store, memory_id: str) -> Memory:
    found = fold(store.read(f"memory-{memory_id}"))
    assert found is not None
    return found


def take_back(store: Store, plan: UndoPlan, name: str = "undo-1") -> None:
    undo(store, lambda: plan, meta={"actor": "cli", "undo_id": name})


def merged(store: Store) -> None:
    """b goes into a, in one stage of the job m."""
    put(store, "a", added("a", "Tabs"), meta=job("s"))
    put(store, "b", added("b", "Tabs not spaces"), meta=job("s"))
    put(store, "a", updated("a", "Tabs, not spaces"), meta=job("m", "curate:p"))
    put(store, "b", MemoryMerged("b", "a"), meta=job("m", "curate:p"))


def test_undo_brings_the_earlier_words_back_and_a_second_undo_the_later_ones(store: Store) -> None:
    put(store, "a", added("a"), updated("a", "Tabs again"))
    first, second = content_hash(fold(store.read("memory-a")[:1]) or memory(store, "a")), memory(store, "a")
    take_back(store, of_memory(store, "a"))
    assert content_hash(memory(store, "a")) == first
    assert memory(store, "a").title == "Tabs"
    take_back(store, of_memory(store, "a"), "undo-2")
    assert content_hash(memory(store, "a")) == content_hash(second)
    assert memory(store, "a").version == 4


def test_back_to_version_0_is_as_if_never_added_and_comes_back_too(store: Store) -> None:
    put(store, "a", added("a"), updated("a", "Other"))
    take_back(store, of_memory(store, "a", to_version=0))
    assert memory(store, "a").status == "undone"
    take_back(store, of_memory(store, "a"))
    assert (memory(store, "a").status, memory(store, "a").title) == ("active", "Other")
    for wrong in (4, 9):
        with pytest.raises(BadInput, match="version 4"):
            of_memory(store, "a", to_version=wrong)


def test_undoing_a_merge_at_the_survivor_brings_all_of_it_back_and_redoing_it_merges_again(store: Store) -> None:
    merged(store)
    plan = of_memory(store, "a")
    assert [(line.memory_id, line.to_version) for line in plan.lines] == [("a", 1), ("b", 1)]
    take_back(store, plan)
    assert [memory(store, one).status for one in "ab"] == ["active", "active"]
    assert memory(store, "b").merged_into is None
    take_back(store, of_memory(store, "a"), "undo-2")
    assert (memory(store, "a").title, memory(store, "b").status) == ("Tabs, not spaces", "merged")
    assert memory(store, "b").merged_into == "a"


def test_undoing_a_merge_at_an_absorbed_memory_leaves_the_survivor_alone(store: Store) -> None:
    merged(store)
    take_back(store, of_memory(store, "b"))
    assert (memory(store, "a").title, memory(store, "b").status) == ("Tabs, not spaces", "active")


def test_an_absorbed_memory_that_was_changed_since_is_not_touched(store: Store) -> None:
    merged(store)
    put(store, "b", MemoryRestored("b"))
    assert [line.memory_id for line in of_memory(store, "a").lines] == ["a"]


def test_a_job_is_undone_whole_with_the_memories_it_merged(store: Store) -> None:
    merged(store)
    before = {key: content_hash(fold(store.read(f"memory-{key}")[:1]) or memory(store, key)) for key in "ab"}
    take_back(store, of_job(store, "m"))
    assert {key: content_hash(memory(store, key)) for key in "ab"} == before
    assert [line.outcome for line in of_job(store, "m").lines] == ["unchanged", "unchanged"]
    take_back(store, of_job(store, "undo-1"), "undo-2")
    assert memory(store, "b").status == "merged"
    take_back(store, of_job(store, "s"), "undo-3")
    assert [line.outcome for line in of_job(store, "s").lines] == ["conflict", "conflict"]


def test_what_somebody_changed_after_the_job_is_a_conflict_and_stays(store: Store) -> None:
    put(store, "a", added("a"), meta=job("j"))
    put(store, "b", added("b"), meta=job("j"))
    put(store, "a", MemoryEdited("a", "Mine", "My words", 1.0), meta=job("k", "publish:p"))
    plan = of_job(store, "j")
    assert [(line.memory_id, line.outcome) for line in plan.lines] == [("a", "conflict"), ("b", "undone")]
    take_back(store, plan)
    assert (memory(store, "a").title, memory(store, "b").status) == ("Mine", "undone")


def test_a_change_between_two_of_the_jobs_own_is_a_conflict(store: Store) -> None:
    put(store, "a", added("a"), meta=job("j"))
    put(store, "a", MemoryEdited("a", "Mine", "My words", 1.0))
    put(store, "a", updated("a", "Theirs"), meta=job("j"))
    assert [line.outcome for line in of_job(store, "j").lines] == ["conflict"]


def test_hand_edits_a_jobs_publish_found_are_not_the_jobs(store: Store) -> None:
    put(store, "a", added("a"), meta=job("i"))
    put(store, "a", MemoryEdited("a", "Mine", "My words", 1.0), meta=job("j", "publish:p"))
    assert of_job(store, "j").lines == []


def test_a_later_change_that_was_undone_itself_is_no_conflict(store: Store) -> None:
    put(store, "a", added("a"), meta=job("j"))
    put(store, "a", MemoryArchived("a", "faded"), meta=job("k", "curate:p"))
    take_back(store, of_job(store, "k"))
    assert [line.outcome for line in of_job(store, "j").lines] == ["undone"]


def test_an_undo_decided_on_old_versions_is_decided_again(store: Store) -> None:
    put(store, "a", added("a"), updated("a", "Two"))
    stale = of_memory(store, "a")
    put(store, "a", updated("a", "Three"))
    plans = iter([stale, of_memory(store, "a")])
    undo(store, lambda: next(plans), meta={})
    assert memory(store, "a").title == "Two"
    with pytest.raises(ConflictError):
        undo(store, lambda: stale, meta={})


def test_what_was_redacted_stays_gone_whatever_comes_later(store: Store) -> None:
    put(store, "a", added("a"), MemoryRedacted("a"), updated("a", "Late"), MemoryRestored("a"))
    found = memory(store, "a")
    assert (found.status, found.title, found.quotes, found.version) == ("redacted", "[REDACTED]", [], 4)
    with pytest.raises(BadInput, match="redacted"):
        of_memory(store, "a", to_version=1)


def test_history_says_in_plain_words_what_changed_and_who_did_it(store: Store) -> None:
    merged(store)
    put(store, "a", MemoryEdited("a", "Mine", "My words", 1.0))
    take_back(store, of_memory(store, "a"))
    changes = history(store.read("memory-a"))
    assert [one.what for one in changes] == [
        'added: "Tabs"',
        "updated",
        "edited by hand",
        "undone: back to version 2",
    ]
    assert changes[1].details[0] == 'title: "Tabs" -> "Tabs, not spaces"'
    assert "tags: +new" in changes[1].details
    assert [one.by for one in changes] == ["job s, integrate", "job m, curate", "a person", "the command line"]
    assert (changes[1].trace_id, changes[1].reason) == ("trace-m", "better words")
    assert changes[3].content_hash == changes[1].content_hash
    assert history(store.read("memory-b"))[-1].what == "merged into a"


def test_looking_back_sees_what_was_known_then_and_nothing_later(store: Store) -> None:
    put(store, "a", added("a", "Use Postgres"))
    put(store, "a", updated("a", "Use MySQL"))
    put(store, "b", added("b", "Deploy on Mondays"))
    put(store, "a", MemoryArchived("a"))
    times = [row.at_ms for row in store.read_all()]
    assert {key: one.title for key, one in memories_at(store, times[0]).items()} == {"a": "Use Postgres"}
    then = MemoriesThen(store, times[2], project_ids=["p"])
    assert [one.title for one in then.search("mysql", 5)] == ["Use MySQL"]
    assert then.search("postgres", 5) == []
    assert sorted(one.memory_id for one in then.list("decision", 5)) == ["a", "b"]
    assert MemoriesThen(store, times[3], project_ids=None).search("mysql", 5) == []
    assert memories_at(store, times[2], project_ids=["q"]) == {}
    assert memories_at(store, times[0] - 1) == {}


def test_what_was_redacted_since_is_not_shown_when_looking_back(store: Store) -> None:
    put(store, "a", added("a"))
    at_ms = store.read_all()[-1].at_ms
    put(store, "a", MemoryRedacted("a"))
    assert memories_at(store, at_ms) == {}


def test_a_time_that_cannot_be_read_or_is_still_to_come_is_refused() -> None:
    assert as_of_ms("2026-01-31T00:00:00+01:00") == as_of_ms("2026-01-30T23:00:00Z")
    for text in ("yesterday", "2999-01-01"):
        with pytest.raises(BadInput):
            as_of_ms(text)
