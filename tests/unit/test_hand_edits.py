"""What people do to memory files: it becomes events, and where the memory changed meanwhile nobody's words are lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from lerim_jobs.log.events import (
    MemoryArchived,
    MemoryMerged,
    MemoryRedacted,
    MemoryRestored,
    MemoryReverted,
    MemoryUpdated,
)
from lerim_jobs.memory.files.markdown import render
from lerim_jobs.memory.files.reading import read_changes
from lerim_jobs.memory.files.survey import needs_publish
from lerim_jobs.memory.files.writing import write
from tests.projects import Shop, problems


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


# --- hand edits ------------------------------------------------------------------------------------
def test_every_field_can_be_edited_and_the_file_becomes_ours_again(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    for old, new in (
        ("About a", "Über uns"),
        ("0.8", "0.95"),
        ("- shop", "- cart\n- shop"),
        ("kind: decision", "kind: pitfall"),
    ):
        shop.edit("a", old, new)
    shop.edit("a", "Body of a.", "Body of a, by hand.")
    assert shop.publish() == {"written": 1, "edited": 1}
    memory = shop.memories["a"]
    said = (memory.title, memory.body, memory.confidence, memory.tags, memory.kind, memory.by_hand)
    assert said == ("Über uns", "Body of a, by hand.", 0.95, ["cart", "shop"], "pitfall", True)
    assert shop.path("a").read_bytes() == render(memory)
    assert memory.quotes
    assert shop.publish() == {}


def test_white_space_line_ends_and_a_byte_order_mark_are_no_edits_and_are_read_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.add("a")
    shop.publish()
    odd = b"\xef\xbb\xbf" + shop.path("a").read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n"
    shop.path("a").write_bytes(odd)
    shop.settle()
    assert shop.publish() == {}
    assert shop.path("a").read_bytes() == odd
    assert shop.memories["a"].version == 1
    monkeypatch.setattr("lerim_jobs.memory.files.folder.read", _never)
    assert shop.publish() == {}
    monkeypatch.undo()
    shop.append("a", MemoryUpdated("a", "New", "B", 0.5))
    shop.path("a").write_bytes(odd + b"\r\n")
    assert shop.publish() == {"written": 1}


def _never(*_: object) -> bytes:
    raise AssertionError("a file that looks the same was read again")


def test_words_below_the_proof_are_kept(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    with shop.path("a").open("a") as file:
        file.write("\nA last thought.\n")
    assert shop.publish() == {"written": 1, "edited": 1}
    assert shop.memories["a"].body == "Body of a.\n\nA last thought."


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("title: About a", "title: [", 6),
        ("confidence: 0.8", "confidence: high", 5),
        ("Body of a.", "<<<<<<< HEAD\nmine\n=======\ntheirs\n>>>>>>> branch", 16),
        ("id: a\n", "id: a b\n", 2),
        ("\n---\n", "\n", 1),
    ],
)
def test_a_broken_file_is_named_with_its_line_and_left_alone(shop: Shop, old: str, new: str, line: int) -> None:
    shop.add("a")
    shop.add("b")
    shop.publish()
    shop.edit("a", old, new)
    broken = shop.path("a").read_bytes()
    shop.append("a", MemoryUpdated("a", "New", "B", 0.5))
    shop.append("b", MemoryUpdated("b", "New", "B", 0.5))
    output = shop.publish()
    assert f"line {line}:" in problems(output)
    assert output["written"] == 1
    assert shop.path("a").read_bytes() == broken
    assert (shop.memories["a"].status, shop.memories["a"].version) == ("active", 2)
    assert "line" in problems(shop.publish())


@pytest.mark.parametrize(
    "line", ["<<<<<<< HEAD", ">>>>>>> branch", "<!-- proof: everything below is written by lerim -->"]
)
def test_edits_of_a_memory_about_such_lines_are_read(shop: Shop, line: str) -> None:
    shop.add("a", body=f"Look for\n{line}\nfirst.")
    shop.publish()
    shop.edit("a", "Look for", "Always look for")
    assert shop.publish() == {"written": 1, "edited": 1}
    assert shop.memories["a"].body == f"Always look for\n{line}\nfirst."
    assert shop.publish() == {}


def test_a_file_without_its_id_is_left_alone(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    for text in ("just words", "---\nid: other\n---\nwords"):
        shop.path("a").write_text(text)
        assert "its id was taken out or changed" in problems(shop.publish())
        assert shop.path("a").read_text() == text
        assert list(shop.memories) == ["a"]


# --- an edit and a change at the same time ---------------------------------------------------------
def test_changes_of_different_fields_go_together(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    shop.edit("a", "Body of a.", "My words.")
    shop.edit("a", "- shop", "- shop\n- mine")
    shop.append("a", MemoryUpdated("a", "New title", "Body of a.", 0.9, ["shop", "theirs"]))
    assert shop.publish() == {"written": 1, "edited": 1}
    memory = shop.memories["a"]
    said = (memory.title, memory.body, memory.confidence, memory.tags, memory.version)
    assert said == ("New title", "My words.", 0.9, ["shop", "theirs", "mine"], 3)
    assert shop.publish() == {}


def test_overlapping_changes_keep_both_until_someone_decides(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    shop.edit("a", "Body of a.", "My words.")
    mine, path = shop.path("a").read_bytes(), shop.path("a")
    shop.append("a", MemoryUpdated("a", "New title", "Other words.", 0.8, ["shop"]))
    beside = path.with_suffix(".conflict.md")
    for _ in range(2):
        output = shop.publish()
        assert output["conflicts"] == 1
        assert "body changed by hand since version 1" in problems(output)
        assert "both are kept" in problems(output)
        assert path.read_bytes() == mine
        assert beside.read_bytes() == render(shop.memories["a"])
    assert needs_publish(shop.store, shop.project)
    beside.unlink()
    assert shop.publish() == {"written": 1, "edited": 1}
    assert (shop.memories["a"].body, shop.memories["a"].title) == ("My words.", "New title")
    assert shop.publish() == {}


def test_a_conflict_follows_newer_versions_and_goes_when_it_is_over(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    shop.edit("a", "Body of a.", "My words.")
    path = shop.path("a")
    for words in ("Other words.", "Third words."):
        shop.append("a", MemoryUpdated("a", "About a", words, 0.8, ["shop"]))
        assert shop.publish()["conflicts"] == 1
    beside = path.with_suffix(".conflict.md")
    assert b"Third words." in beside.read_bytes()
    shop.edit("a", "version: 1", "version: 3")
    assert shop.publish() == {"written": 1, "edited": 1}
    assert shop.memories["a"].body == "My words."
    assert not beside.exists()


def test_an_edited_conflict_file_is_not_overwritten(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    shop.edit("a", "Body of a.", "My words.")
    beside = shop.path("a").with_suffix(".conflict.md")
    beside.write_text("a note")
    shop.append("a", MemoryUpdated("a", "About a", "Other words.", 0.8, ["shop"]))
    shop.publish()
    assert beside.read_text() == "a note"
    assert b"My words." in shop.path("a").read_bytes()
    beside.unlink()
    shop.publish()
    beside.write_text(beside.read_text() + "my note")
    shop.edit("a", "version: 1", "version: 2")
    assert shop.publish() == {"written": 1, "edited": 1}
    assert beside.read_text().endswith("my note")
    assert shop.publish() == {}


def test_a_conflict_stays_open_when_its_file_is_moved(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    shop.edit("a", "Body of a.", "My words.")
    shop.append("a", MemoryUpdated("a", "About a", "Other words.", 0.8, ["shop"]))
    shop.publish()
    path, moved = shop.path("a"), shop.path("a").with_name("mine.md")
    path.rename(moved)
    for _ in range(2):
        assert shop.publish()["conflicts"] == 1
        assert shop.memories["a"].body == "Other words."
        assert not path.with_suffix(".conflict.md").exists()
    moved.with_suffix(".conflict.md").unlink()
    assert shop.publish() == {"written": 1, "edited": 1}
    assert shop.memories["a"].body == "My words."


def test_a_redacted_memory_leaves_no_version_of_ours_where_its_file_was_before_it_was_moved(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    plain = shop.path("a").read_bytes()
    shop.edit("a", "Body of a.", "My words.")
    shop.append("a", MemoryUpdated("a", "About a", "The secret.", 0.8, ["shop"]))
    shop.publish()
    moved = shop.path("a").rename(shop.path("a").with_name("mine.md"))
    moved.write_bytes(plain)
    shop.append("a", MemoryRedacted("a"))
    shop.publish()
    assert shop.files() == {}


def test_a_redacted_memory_leaves_no_version_of_ours_beside(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    path, plain = shop.path("a"), shop.path("a").read_bytes()
    shop.edit("a", "Body of a.", "My words.")
    shop.append("a", MemoryUpdated("a", "About a", "The secret.", 0.8, ["shop"]))
    shop.publish()
    assert b"The secret." in path.with_suffix(".conflict.md").read_bytes()
    path.write_bytes(plain)
    shop.append("a", MemoryRedacted("a"))
    shop.publish()
    assert shop.files() == {}


def test_an_edit_of_what_was_archived_meanwhile_brings_it_back(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    shop.edit("a", "Body of a.", "My words.")
    shop.append("a", MemoryArchived("a", "faded"))
    assert shop.publish() == {"written": 1, "edited": 1, "restored": 1}
    assert (shop.memories["a"].status, shop.memories["a"].body) == ("active", "My words.")
    assert next(iter(shop.files())).startswith("decisions/")


def test_an_edit_of_what_was_merged_meanwhile_keeps_both(shop: Shop) -> None:
    shop.add("a")
    shop.add("b")
    shop.publish()
    shop.edit("a", "Body of a.", "My words.")
    shop.append("a", MemoryMerged("a", "b", "the same"))
    shop.append("b", MemoryUpdated("b", "Both", "Both.", 0.8))
    output = shop.publish()
    assert (output["edited"], output["restored"], output["written"]) == (1, 1, 2)
    assert "merged into 'b' meanwhile: both are kept" in problems(output)
    assert [(one.status, one.body, one.merged_into) for one in shop.memories.values()] == [
        ("active", "My words.", None),
        ("active", "Both.", None),
    ]
    assert shop.publish() == {}


def test_an_archived_memory_can_be_edited_where_it_lies(shop: Shop) -> None:
    shop.add("a")
    shop.append("a")
    shop.publish()
    shop.append("a", MemoryArchived("a"))
    shop.publish()
    shop.edit("a", "Body of a.", "My words.")
    assert shop.publish() == {"written": 1, "edited": 1}
    assert (shop.memories["a"].status, shop.memories["a"].body) == ("archived", "My words.")


def test_a_change_between_reading_and_writing_is_left_for_next_time(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.add("a")
    shop.publish()
    shop.append("a", MemoryUpdated("a", "New title", "Body of a.", 0.8, ["shop"]))
    plain = write

    def late(*given: Any) -> Any:
        shop.edit("a", "Body of a.", "My words.")
        return plain(*given)

    monkeypatch.setattr("lerim_jobs.memory.files.publishing.write", late)
    assert "changed just now" in problems(shop.publish())
    monkeypatch.undo()
    assert shop.publish() == {"written": 1, "edited": 1}
    assert (shop.memories["a"].title, shop.memories["a"].body) == ("New title", "My words.")


def test_a_file_edited_just_before_its_removal_is_not_removed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.add("a")
    shop.publish()
    shop.append("a", MemoryReverted("a", 0, "undone", "decision", "T", "B", 0.5))

    def late(*given: Any) -> Any:
        shop.edit("a", "Body of a.", "My words.")
        return write(*given)

    monkeypatch.setattr("lerim_jobs.memory.files.publishing.write", late)
    assert "changed by hand: left alone" in problems(shop.publish())
    monkeypatch.undo()
    assert "its memory is undone: left alone" in problems(shop.publish())
    assert b"My words." in shop.path("a").read_bytes()


def test_a_memory_that_moves_while_an_edit_is_read_is_decided_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.add("a")
    shop.publish()
    shop.edit("a", "Body of a.", "My words.")
    plain = read_changes
    calls: list[int] = []

    def late(*given: Any, **more: Any) -> Any:
        found = plain(*given, **more)
        if not calls:
            shop.append("a", MemoryUpdated("a", "New title", "Body of a.", 0.8, ["shop"]))
        calls.append(1)
        return found

    monkeypatch.setattr("lerim_jobs.memory.files.publishing.read_changes", late)
    assert shop.publish() == {"written": 1, "edited": 1}
    assert (shop.memories["a"].title, shop.memories["a"].body, len(calls)) == ("New title", "My words.", 2)


# --- new, moved, copied, deleted -------------------------------------------------------------------
def test_new_files_become_memories_with_their_own_words(shop: Shop) -> None:
    for path, text in {
        "decisions/money.md": "# Money is integers #\n\nCents, never floats.\n",
        "learnings/deep/on_call-notes.md": "Ring twice.",
        "learnings/given.md": "---\ntitle: 2026-01-31\nkind: pitfall\ntags: a, b\nconfidence: 0.4\n---\nWords.",
        "archived/summaries/old.md": "Once upon a time.",
    }.items():
        (shop.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (shop.folder / path).write_text(text)
    assert shop.publish() == {"written": 4, "added": 4}
    found = {one.title: one for one in shop.memories.values()}
    money = found["Money is integers"]
    assert (money.kind, money.body, money.confidence, money.quotes) == ("decision", "Cents, never floats.", 1.0, [])
    assert money.by_hand
    assert (found["on call notes"].kind, found["on call notes"].body) == ("insight", "Ring twice.")
    given = found["2026-01-31"]
    assert (given.kind, given.tags, given.confidence) == ("pitfall", ["a", "b"], 0.4)
    assert (found["old"].kind, found["old"].status) == ("summary", "archived")
    assert shop.path(money.memory_id) == shop.folder / "decisions/money.md"
    assert shop.path(money.memory_id).read_bytes() == render(money)
    assert shop.publish() == {}


def test_a_new_file_is_added_once_even_when_the_publish_dies_half_way(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shop.folder / "decisions" / "money.md"
    path.parent.mkdir(parents=True)
    path.write_text("# Money\n\nCents.")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lerim_jobs.memory.files.publishing.write", die)
    with pytest.raises(KeyboardInterrupt):
        shop.publish()
    monkeypatch.undo()
    assert shop.publish() == {"written": 1}
    assert len(shop.memories) == 1
    assert path.read_bytes() == render(*shop.memories.values())
    path.unlink()
    shop.publish()
    path.write_text("# Money\n\nCents.")
    assert shop.publish()["added"] == 1
    assert sorted(one.status for one in shop.memories.values()) == ["active", "archived"]


def test_moves_and_renames_keep_the_new_path(shop: Shop) -> None:
    shop.add("a")
    shop.add("b")
    shop.publish()
    to = shop.folder / "learnings" / "mine" / "carts.md"
    to.parent.mkdir(parents=True)
    shop.path("a").rename(to)
    assert shop.publish() == {"moved": 1}
    assert shop.path("a") == to
    one, two = shop.path("a"), shop.path("b")
    one.rename(one.with_name("x"))
    two.rename(one)
    one.with_name("x").rename(two)
    assert shop.publish() == {"moved": 2}
    assert (shop.path("a"), shop.path("b")) == (two, one)
    shop.edit("a", "Body of a.", "My words.")
    shop.path("a").rename(to.with_name("renamed.md"))
    assert shop.publish() == {"moved": 1, "edited": 1, "written": 1}
    assert {one.status for one in shop.memories.values()} == {"active"}


def test_moving_into_the_archive_archives_and_out_of_it_restores(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    away = shop.folder / "archived" / "decisions" / "gone.md"
    away.parent.mkdir(parents=True)
    shop.path("a").rename(away)
    assert shop.publish() == {"moved": 1, "archived": 1, "written": 1}
    assert (shop.memories["a"].status, shop.path("a")) == ("archived", away)
    back = shop.folder / "decisions" / "back.md"
    away.rename(back)
    assert shop.publish() == {"moved": 1, "restored": 1, "written": 1}
    assert (shop.memories["a"].status, shop.path("a")) == ("active", back)
    shop.edit("a", "status: active", "status: archived")
    shop.publish()
    assert (shop.memories["a"].status, shop.path("a").parts[-3]) == ("archived", "archived")


def test_copies_and_unknown_ids_are_told_and_left_alone(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    copy, unknown = shop.path("a").with_name("copy.md"), shop.path("a").with_name("unknown.md")
    shutil.copy(shop.path("a"), copy)
    unknown.write_text("---\nid: nobody\n---\nWords.")
    before = shop.files()
    told = problems(shop.publish())
    assert "copy.md: a copy: memory a is in" in told
    assert "no memory has the id 'nobody'; left alone. `lerim memory import`" in told
    assert shop.files() == before
    assert list(shop.memories) == ["a"]
    shop.settle()
    shop.publish()
    assert not needs_publish(shop.store, shop.project)
    shop.path("a").rename(shop.path("a").with_name("zz.md"))
    copy.write_text(copy.read_text().replace("Body of a.", "An edited copy."))
    shop.publish()
    assert shop.path("a").name == "zz.md"
    assert shop.memories["a"].body == "Body of a."
    assert "An edited copy." in copy.read_text()


def test_deleting_a_file_archives_and_deleting_the_archived_one_lets_it_go(shop: Shop) -> None:
    shop.add("a")
    shop.add("b")
    shop.publish()
    shop.path("a").unlink()
    assert shop.publish() == {"deleted": 1, "written": 1}
    assert shop.memories["a"].status == "archived"
    assert shop.path("a").parts[-3] == "archived"
    shop.path("a").unlink()
    assert shop.publish() == {}
    assert [Path(path).parts[0] for path in shop.files()] == ["decisions"]
    shop.append("a", MemoryRestored("a"))
    assert shop.publish() == {"written": 1}


def test_files_outside_the_folders_of_memories_are_not_taken(shop: Shop) -> None:
    shop.folder.mkdir(parents=True)
    (shop.folder / "README.md").write_text("# About this folder")
    (shop.folder / "decisions").mkdir()
    (shop.folder / "decisions" / "empty.md").write_text("  \n")
    (shop.folder / "decisions" / "notes.txt").write_text("words")
    output = shop.publish()
    assert shop.memories == {}
    assert "it is empty" in problems(output)
    assert "not in decisions/" in problems(output)
