"""Changes by command: decided on the version that was read, never over somebody else's words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lerim_jobs.errors import BadInput, ConflictError
from lerim_jobs.log.events import MemoryMerged, MemoryRedacted, MemoryRestored, MemoryUpdated
from lerim_jobs.log.store import Store
from lerim_jobs.memory import by_hand
from lerim_jobs.memory.files.merging import Content, content_of
from lerim_jobs.memory.files.states import files_of
from tests.projects import Shop

META = {"actor": "test"}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path)
    made.add("a")
    return made


def test_what_changed_since_it_was_read_is_kept_and_a_clash_is_said(shop: Shop) -> None:
    base = shop.memories["a"]
    shop.append("a", MemoryUpdated("a", "New title", base.body, 0.8, base.tags))
    mine = msgspec.structs.replace(content_of(base), body="My words.")
    memory = by_hand.edit(shop.store, base, mine, meta=META)
    assert (memory.title, memory.body, memory.by_hand) == ("New title", "My words.", True)
    with pytest.raises(ConflictError, match="body of a changed meanwhile"):
        by_hand.edit(shop.store, base, msgspec.structs.replace(mine, body="Other words."), meta=META)
    assert by_hand.edit(shop.store, base, mine, meta=META).version == memory.version


class Busy:
    """A store in which `meanwhile` happens right before the first event is appended."""

    def __init__(self, store: Store, meanwhile: Callable[[], None]) -> None:
        self._store, self._meanwhile = store, [meanwhile]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def append(self, *given: Any, **options: Any) -> Any:
        while self._meanwhile:
            self._meanwhile.pop()()
        return self._store.append(*given, **options)


def test_a_memory_that_moves_at_the_last_moment_is_read_again(shop: Shop) -> None:
    base = shop.memories["a"]
    update = MemoryUpdated("a", "New title", base.body, 0.8, base.tags)
    busy: Any = Busy(shop.store, lambda: shop.append("a", update))
    memory = by_hand.edit(busy, base, msgspec.structs.replace(content_of(base), body="Mine."), meta=META)
    assert (memory.title, memory.body, memory.version) == ("New title", "Mine.", 3)


def test_the_same_words_are_added_once_and_again_after_they_were_archived(shop: Shop) -> None:
    content = Content("Money", "Cents.", 1.0, ["b", "a", "b"], "decision")
    first, is_new = by_hand.add(shop.store, "p", content, meta=META)
    assert (is_new, first.tags, first.quotes) == (True, ["b", "a"], [])
    assert by_hand.add(shop.store, "p", content, meta=META) == (first, False)
    by_hand.archive(shop.store, first.memory_id, "old", meta=META)
    second, is_new = by_hand.add(shop.store, "p", content, meta=META)
    assert is_new
    assert second.memory_id != first.memory_id


def test_archive_and_restore_do_nothing_twice_and_bring_merged_ones_back(shop: Shop) -> None:
    shop.add("b")
    shop.append("a", MemoryMerged("a", "b"))
    assert by_hand.archive(shop.store, "a", "", meta=META).status == "merged"
    back = by_hand.restore(shop.store, "a", "", meta=META)
    assert (back.status, back.merged_into) == ("active", None)
    assert by_hand.restore(shop.store, "a", "", meta=META) == back


def test_a_redacted_memory_stays_redacted_and_without_a_file(shop: Shop) -> None:
    shop.publish()
    base = shop.memories["a"]
    shop.append("a", MemoryRedacted("a"))
    for change in (by_hand.archive, by_hand.restore):
        with pytest.raises(BadInput, match="redacted"):
            change(shop.store, "a", "", meta=META)
    with pytest.raises(BadInput, match="redacted"):
        by_hand.edit(shop.store, base, content_of(base), meta=META)
    shop.append("a", MemoryRestored("a"))  # as if decided before
    assert files_of(shop.store, ["a"])["a"].status == "redacted"


@pytest.mark.parametrize(
    "content",
    [
        Content("\n", "B", 1.0, [], "decision"),
        Content("x" * 201, "B", 1.0, [], "decision"),
        Content("T", "x" * 65_537, 1.0, [], "decision"),
        Content("T", "B", 1.1, [], "decision"),
        Content("T", "B", 1.0, [str(n) for n in range(33)], "decision"),
    ],
)
def test_what_a_file_could_not_hold_is_refused(shop: Shop, content: Content) -> None:
    with pytest.raises(BadInput):
        by_hand.add(shop.store, "p", content, meta=META)
    assert list(shop.memories) == ["a"]
