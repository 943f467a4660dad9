"""What is near a text: plainly related memories and nothing else, whatever the language."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lerim_jobs.log.events import MemoryAdded, MemoryArchived, MemoryKind
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.memory.search.nearness import nearness
from lerim_jobs.paths import Home
from tests.languages import LANGUAGES, Told
from workers.memories import Memories


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "log.sqlite3")
    yield store
    store.close()


def add(store: SqliteStore, memory_id: str, title: str, body: str = "", *, kind: MemoryKind = "decision") -> None:
    store.append(f"memory-{memory_id}", [MemoryAdded(memory_id, "p", kind, title, body, 0.8, [], [])])


def near(store: SqliteStore, place: Path, text: str, limit: int = 4) -> list[str]:
    return [one.memory_id for one in Memories(store, Home(place), project_ids=["p"]).near(text, limit)]


def test_what_shares_one_common_word_is_not_near(store: SqliteStore, tmp_path: Path) -> None:
    add(store, "carts", "Carts live in Redis", "They expire after 14 days.")
    add(store, "tabs", "Tabs in Go files", "gofmt does it, and editors follow.")
    for n in range(20):
        add(store, f"test{n}", f"Test suite number {n}", f"It covers the area number {n} of the shop.")
    assert near(store, tmp_path, "Carts live in SQLite\nRedis lost carts, so they are in SQLite now.") == ["carts"]
    assert near(store, tmp_path, "The landing page of the shop is blue\nMarketing wants it that way.") == []
    assert near(store, tmp_path, "Kubernetes") == []
    assert near(store, tmp_path, "") == []
    assert near(store, tmp_path, "of the and") == []


def test_a_store_with_one_memory_is_enough(store: SqliteStore, tmp_path: Path) -> None:
    add(store, "carts", "Carts live in Redis", "They expire after 14 days.")
    assert near(store, tmp_path, "Cart storage is SQLite, not Redis") == ["carts"]
    assert near(store, tmp_path, "Deploys happen on Mondays") == []


def test_a_long_text_is_near_what_its_words_entitle(store: SqliteStore, tmp_path: Path) -> None:
    body = " ".join(f"{a}{b}{a}" for a in "npqrst" for b in "aeiou")
    add(store, "lock", "No row lock while calling Stripe", body)
    many = " ".join(f"{a}{b}{a}{b}" for a in "bcdfghjklm" for b in "aeiouvwxyz")
    assert near(store, tmp_path, f"Payments\n{many} a row lock while Stripe is called") == ["lock"]
    assert near(store, tmp_path, f"Payments\n{many} a row of words") == []


def test_summaries_and_what_is_archived_are_not_near(store: SqliteStore, tmp_path: Path) -> None:
    add(store, "summary", "Carts live in Redis", kind="summary")
    add(store, "gone", "Carts live in Redis")
    add(store, "kept", "Carts live in Redis too")
    store.append("memory-gone", [MemoryArchived("gone")])
    assert near(store, tmp_path, "Carts live in Redis") == ["kept"]


def test_the_nearest_come_first_and_no_more_than_asked_for(store: SqliteStore, tmp_path: Path) -> None:
    add(store, "same", "Carts live in Redis for the shop")
    for n in range(9):
        add(store, f"other{n}", f"Carts are emptied by worker {n}", "Redis is asked first.")
    assert near(store, tmp_path, "Carts live in Redis for the shop")[0] == "same"
    assert len(near(store, tmp_path, "Carts live in Redis for the shop", 3)) == 3


@pytest.mark.parametrize("told", LANGUAGES, ids=[one.language for one in LANGUAGES])
def test_a_changed_statement_is_near_the_old_one_in_any_language(
    store: SqliteStore, tmp_path: Path, told: Told
) -> None:
    for one in LANGUAGES:
        add(store, one.language, one.title, one.body)
    for other in told.others:
        assert near(store, tmp_path, f"{told.title}\n{other}") == [told.language]
    assert near(store, tmp_path, told.said) == [told.language]


def test_nearness_is_a_share() -> None:
    assert nearness({}, {"a": 1.0}) == 0
    assert nearness({"a": 2.0, "b": 1.0}, {"a": 2.0, "b": 1.0}) == pytest.approx(1)
    assert 0 < nearness({"format": 1.0}, {"formatt": 1.0}) < 1
