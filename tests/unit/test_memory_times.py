"""Memories go by when they were said: dates, order, fading, and looks back."""

from __future__ import annotations

import pytest

from lerim_jobs.clock import day, iso, ms_from_iso
from lerim_jobs.config import Decay
from lerim_jobs.errors import BadInput
from lerim_jobs.log.events import (
    Event,
    MemoryAdded,
    MemoryArchived,
    MemoryEdited,
    MemoryMerged,
    MemoryRedacted,
    MemoryReverted,
    MemoryUpdated,
    ProjectAdded,
    Quote,
)
from lerim_jobs.log.projection import find
from lerim_jobs.memory.checks.decay import decide
from lerim_jobs.memory.files.markdown import default_path, render
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.search.asof import MemoriesThen, as_of_ms, memories_at
from lerim_jobs.memory.search.context import MIN_TOKENS, compose, ranked
from lerim_jobs.memory.search.index import SearchIndex, newest_memories
from lerim_jobs.memory.stored import load_memories
from lerim_jobs.projects import PROJECTS
from tests.memory_store import MemoryStore

DAY_MS = 86_400_000
JUNE, JULY, AUGUST = (ms_from_iso(f"2026-0{month}-10T09:00:00Z") for month in (6, 7, 8))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def quote(at_ms: int | None, text: str = "tabs it is", turn: int = 0) -> Quote:
    return Quote(text, "s", "session-codex-s", "codex", turn, "user", at_ms)


def put(store: MemoryStore, memory_id: str, *events: Event) -> None:
    store.append(f"memory-{memory_id}", list(events))


def added(memory_id: str, *at_ms: int | None, title: str = "Tabs", kind: str = "decision") -> MemoryAdded:
    quotes = [quote(at, turn=turn) for turn, at in enumerate(at_ms)]
    return MemoryAdded(memory_id, "p", kind, title, "We use tabs.", 0.8, quotes=quotes)  # type: ignore[arg-type]


def one(store: MemoryStore, memory_id: str = "m") -> Memory:
    (found,) = load_memories(store, [memory_id])
    return found


# --- dates -----------------------------------------------------------------------------------------
def test_a_file_is_named_and_dated_by_the_first_saying(store: MemoryStore) -> None:
    put(store, "m", added("m", JUNE), MemoryUpdated("m", "Tabs", "Wider.", 0.9, quotes=[quote(AUGUST, "wider", 4)]))
    memory = one(store)
    assert (memory.begun_ms, memory.said_ms, memory.dated_ms) == (JUNE, AUGUST, AUGUST)
    assert default_path(memory).startswith("decisions/20260610-tabs-")
    assert b"\ncreated: 2026-06-10T09:00:00" in render(memory).replace(b'"', b"").replace(b"'", b"")
    assert memory.created_ms > AUGUST


@pytest.mark.parametrize("times", [(), (None,)])
def test_what_nobody_said_at_a_known_time_goes_by_the_log(store: MemoryStore, times: tuple[None, ...]) -> None:
    put(store, "m", added("m", *times))
    memory = one(store)
    assert memory.said_ms is None
    assert memory.begun_ms == memory.dated_ms == memory.accessed_ms == memory.created_ms
    assert (iso(memory.created_ms) or "")[:10].replace("-", "") in default_path(memory)


def test_a_clock_that_ran_ahead_does_not_date_a_memory_into_the_future(store: MemoryStore) -> None:
    put(store, "m", added("m", store.now_ms() + 400 * DAY_MS))
    memory = one(store)
    assert memory.said_ms == memory.accessed_ms == memory.updated_ms


def test_lists_have_what_was_said_last_first(store: MemoryStore) -> None:
    put(store, "july", added("july", JULY))
    put(store, "june", added("june", JUNE, AUGUST))
    put(store, "back", added("back", JUNE))
    put(store, "hand", added("hand", JUNE), MemoryEdited("hand", "Tabs", "Ours.", 0.8, []))
    index = SearchIndex(None, store)
    index.catch_up()
    assert [one.memory_id for one in newest_memories(index, store, limit=9)] == ["hand", "june", "july", "back"]
    assert (day(JUNE), day(None)) == ("10 Jun 2026", "")


# --- fading ----------------------------------------------------------------------------------------
def test_a_memory_fades_from_when_it_was_said_but_not_right_after_it_was_kept(store: MemoryStore) -> None:
    put(store, "m", added("m", ms_from_iso("2020-01-01")))
    memory = one(store)
    kept_ms = memory.updated_ms
    fresh = decide(memory, kept_ms + 30 * DAY_MS, Decay())
    assert (fresh.archive, fresh.days > 2000) == (False, True)
    assert decide(memory, kept_ms + 31 * DAY_MS, Decay()).archive
    assert not decide(memory, kept_ms + 60 * DAY_MS, Decay(), used_ms=kept_ms + 59 * DAY_MS).archive


def test_saying_it_again_renews_it_and_a_clean_up_does_not(store: MemoryStore) -> None:
    put(store, "m", added("m", JUNE))
    put(store, "m", MemoryUpdated("m", "Tabs", "So.", 0.8, quotes=[quote(JUNE - DAY_MS, "tabs", 1)]))
    assert one(store).accessed_ms == JUNE
    put(store, "m", MemoryUpdated("m", "Tabs", "So.", 0.8, quotes=[quote(JULY, "tabs again", 2)]))
    assert one(store).accessed_ms == JULY
    put(store, "m", MemoryUpdated("m", "Tabs", "So.", 0.8, quotes=[quote(JUNE, "from another", 9)], reason="the same"))
    assert one(store).accessed_ms == JULY


# --- context ---------------------------------------------------------------------------------------
def test_the_newest_summary_always_has_a_line_and_every_line_its_day(store: MemoryStore) -> None:
    store.append("project-p", [ProjectAdded("p", "shop", "/srv/shop", "h")])
    for number in range(60):
        put(store, f"decision{number:02d}", added(f"decision{number:02d}", JULY, title=f"Rule number {number}"))
    put(store, "summary-old", added("summary-old", JULY, title="Carts were moved", kind="summary"))
    put(store, "summary-new", added("summary-new", AUGUST, title="Checkout is half done", kind="summary"))
    put(store, "summary-june", added("summary-june", JUNE, title="The start", kind="summary"))
    project, index = find(store, PROJECTS, "p"), SearchIndex(None, store)
    assert project is not None
    index.catch_up()
    useful = ranked(index, project, now_ms=store.now_ms(), settings=Decay())
    for budget in (MIN_TOKENS, 150, 400, 1500):
        found = compose(store, project, useful, budget_tokens=budget)
        assert found.tokens <= budget
        assert "`summary-` 2026-08-10 Checkout is half done" in found.markdown
        assert found.left_out + len(found.memories) == 63
    assert "`decision` 2026-07-10 Rule number" in found.markdown


# --- looking back ----------------------------------------------------------------------------------
def active(store: MemoryStore, at_ms: int, by: str = "said") -> list[str]:
    then = memories_at(store, at_ms, by=by)  # type: ignore[arg-type]
    return sorted(key for key, memory in then.items() if memory.status == "active")


def test_june_read_in_november_is_what_was_known_in_june(store: MemoryStore) -> None:
    put(store, "june", added("june", JUNE))
    put(store, "july", added("july", JULY))
    assert active(store, JUNE - 1) == []
    assert active(store, JUNE) == ["june"]
    assert active(store, JULY) == ["july", "june"]
    assert active(store, AUGUST, by="log") == []
    assert [
        memory.memory_id for memory in MemoriesThen(store, JUNE, by="said", project_ids=["p"]).search("tabs", 5)
    ] == ["june"]


@pytest.mark.parametrize("newer_first", [False, True])
def test_what_was_replaced_was_true_until_it_was_replaced_in_whatever_order_it_was_read(
    store: MemoryStore, newer_first: bool
) -> None:
    if newer_first:
        put(store, "new", added("new", JULY))
        put(store, "old", added("old", JUNE), MemoryArchived("old", "said before it", "new"))
    else:
        put(store, "old", added("old", JUNE))
        put(store, "new", added("new", JULY))
        put(store, "old", MemoryArchived("old", "replaced", "new"))
    assert active(store, JULY - 1) == ["old"]
    assert active(store, JULY) == ["new"]


def test_a_memory_says_what_had_been_said_of_it_by_then(store: MemoryStore) -> None:
    put(store, "m", added("m", JUNE), MemoryUpdated("m", "Tabs", "Four wide.", 0.8, quotes=[quote(JULY, "four", 3)]))
    assert memories_at(store, JULY - 1, by="said")["m"].body == "We use tabs."
    assert memories_at(store, JULY, by="said")["m"].body == "Four wide."


def test_what_people_and_clean_ups_did_counts_from_when_they_did_it(store: MemoryStore) -> None:
    for key in ("faded", "twin", "kept", "edited"):
        put(store, key, added(key, JUNE))
    put(store, "faded", MemoryArchived("faded", "decayed"))
    put(store, "twin", MemoryMerged("twin", "kept"))
    put(store, "edited", MemoryEdited("edited", "Spaces", "No.", 0.8, []))
    assert active(store, AUGUST) == ["edited", "faded", "kept", "twin"]
    assert memories_at(store, AUGUST, by="said")["edited"].title == "Tabs"
    assert active(store, store.now_ms() + 1) == ["edited", "kept"]


def test_what_was_removed_never_was_and_what_was_undone_was_there(store: MemoryStore) -> None:
    for key in ("undone", "removed"):
        put(store, key, added(key, JUNE))
    was = one(store, "undone")
    put(store, "undone", MemoryReverted("undone", 0, "undone", was.kind, was.title, was.body, was.confidence))
    put(store, "removed", MemoryRedacted("removed"))
    assert active(store, AUGUST) == ["undone"]
    assert active(store, store.now_ms() + 1) == []


def test_a_day_counts_up_to_its_end() -> None:
    assert as_of_ms("2026-01-31") == ms_from_iso("2026-02-01") - 1
    assert as_of_ms("2026-01-31T00:00:00Z") == ms_from_iso("2026-01-31")
    today = (iso(MemoryStore().now_ms()) or "")[:10]
    assert as_of_ms(today) >= ms_from_iso(today)
    for text in ("2026-02-30", "9999-12-31", "2999-01-01"):
        with pytest.raises(BadInput):
            as_of_ms(text)
