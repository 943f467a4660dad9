"""Memories as files: stable, git-friendly, and nobody's words are lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from lerim_jobs.config import Decay
from lerim_jobs.ids import digest
from lerim_jobs.log.codec import Recorded, encode
from lerim_jobs.log.events import (
    Event,
    MemoryAdded,
    MemoryArchived,
    MemoryEdited,
    MemoryMerged,
    MemoryRestored,
    MemoryUpdated,
    PublishedFile,
    Quote,
)
from lerim_jobs.memory import decay
from lerim_jobs.memory.files import BadFile, Parsed, default_path, parse, render
from lerim_jobs.memory.memory import Memory, fold
from lerim_jobs.memory.publish import Written, read_edits, write
from lerim_jobs.memory.search import SearchIndex, words

QUOTE = Quote("we use tabs", "s1", "session-codex-1", "codex", 4, "user", 1_795_000_000_000)
ADDED = MemoryAdded(
    "m123456789", "p", "decision", "Tabs: it is", "We use tabs.", 0.8, ["style"], [QUOTE], "s1", "codex"
)


def history(*events: Event) -> list[Recorded]:
    meta = {"job_id": "j", "trace_id": "t", "span_id": "s"}
    return [
        Recorded(n, str(n), "memory-m123456789", n, type(event).__name__, 1, encode(event), meta, 1_795_000_000_000 + n)
        for n, event in enumerate(events, 1)
    ]


def folded(*events: Event) -> Memory:
    memory = fold(history(ADDED, *events))
    assert memory is not None
    return memory


def test_every_event_has_its_effect() -> None:
    updated = folded(
        MemoryUpdated("m123456789", "New", "Body", 0.9, [], [QUOTE, msgspec.structs.replace(QUOTE, text="more")])
    )
    assert (updated.title, len(updated.quotes), updated.version, updated.job_id) == ("New", 2, 2, "j")
    assert folded(MemoryArchived("m123456789", "old")).status == "archived"
    assert folded(MemoryArchived("m123456789"), MemoryRestored("m123456789")).status == "active"
    merged = folded(MemoryMerged("m123456789", "other"))
    assert (merged.status, merged.merged_into) == ("merged", "other")
    edited = folded(MemoryEdited("m123456789", "Mine", "My words", 1.0))
    assert (edited.title, edited.by_hand, edited.quotes) == ("Mine", True, [QUOTE])


def test_a_file_says_what_it_is_and_reads_back() -> None:
    memory = folded()
    data = render(memory)
    assert data == render(memory)
    found = parse(data)
    assert found == Parsed("m123456789", 1, "Tabs: it is", "We use tabs.", 0.8, ["style"])
    text = data.decode()
    assert "> we use tabs" in text
    assert "job: j" in text
    assert default_path(memory) == "decisions/20261118-tabs-it-is-m1234567.md"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("no front matter", 1),
        ("---\nid: x\n", 1),
        ("---\nid: x\ntitle: [\n---\n", 3),
        ("---\n- a\n---\n", 2),
        ("---\nid: x\ntitle: y\nconfidence: high\ntags: []\nversion: 1\n---\n", 4),
        ("---\nid: x\ntitle: y\nconfidence: 7\ntags: []\nversion: 1\n---\n", 4),
    ],
)
def test_a_broken_file_is_reported_with_its_line(text: str, line: int) -> None:
    found = parse(text.encode())
    assert isinstance(found, BadFile)
    assert found.line == line


# --- publishing ------------------------------------------------------------------------------------
def published(written: Written, before: dict[str, PublishedFile] | None = None) -> dict[str, PublishedFile]:
    return {**(before or {}), **{file.memory_id: file for file in written.files}}


def at(*events: Event) -> Any:
    return lambda memory_id, version: fold(history(ADDED, *events)[:version])


def test_only_what_changed_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "repo" / ".lerim" / "memory"
    first = write(folder, {"m123456789": folded()}, {})
    (file,) = first.files
    assert (folder / file.path).read_bytes() == render(folded())
    known = published(first)
    before = (folder / file.path).stat().st_mtime_ns
    assert write(folder, {"m123456789": folded()}, known) == Written([], [])
    assert (folder / file.path).stat().st_mtime_ns == before
    renamed = folded(MemoryUpdated("m123456789", "Another title", "B", 0.5))
    second = write(folder, {"m123456789": renamed}, known)
    assert second.files[0].path == file.path
    assert [path.name for path in folder.rglob(".lerim-*")] == []


def test_archived_memories_move_and_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "repo" / ".lerim" / "memory"
    known = published(write(folder, {"m": folded()}, {}))
    gone = published(write(folder, {"m": folded(MemoryArchived("m123456789"))}, known), known)
    assert gone["m123456789"].path.startswith("archived/decisions/")
    assert [path.relative_to(folder).parts[0] for path in folder.rglob("*.md")] == ["archived"]
    events = (MemoryArchived("m123456789"), MemoryRestored("m123456789"))
    write(folder, {"m": folded(*events)}, gone)
    assert [path.relative_to(folder).parts[0] for path in folder.rglob("*.md")] == ["decisions"]


def test_hand_edits_become_events_and_deleted_files_archive(tmp_path: Path) -> None:
    folder = tmp_path / "repo" / ".lerim" / "memory"
    known = published(write(folder, {"m": folded()}, {}))
    path = folder / known["m123456789"].path
    path.write_text(path.read_text().replace("We use tabs.", "We use tabs, two wide."))
    found = read_edits(folder, known, {"m123456789": folded()}, at())
    assert found.edits == [MemoryEdited("m123456789", "Tabs: it is", "We use tabs, two wide.", 0.8, ["style"])]
    path.unlink()
    gone = read_edits(folder, known, {"m123456789": folded()}, at())
    assert (gone.edits, gone.deleted) == ([], [MemoryArchived("m123456789", "its file was deleted")])


def test_white_space_at_the_end_and_broken_files_change_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "repo" / ".lerim" / "memory"
    known = published(write(folder, {"m": folded()}, {}))
    path = folder / known["m123456789"].path
    path.write_bytes(path.read_bytes() + b"\n\n")
    assert read_edits(folder, known, {"m123456789": folded()}, at()).edits == []
    path.write_text("---\nid: [\n---\n")
    broken = read_edits(folder, known, {"m123456789": folded()}, at())
    assert broken.edits == []
    assert "line 2" in broken.problems[0].problem or "line 3" in broken.problems[0].problem
    later = folded(MemoryUpdated("m123456789", "New", "B", 0.5))
    assert "left alone" in write(folder, {"m": later}, known).problems[0].problem
    assert path.read_text() == "---\nid: [\n---\n"


def test_files_of_a_publish_that_died_before_its_commit_are_known_as_ours(tmp_path: Path) -> None:
    folder = tmp_path / "repo" / ".lerim" / "memory"
    known = published(write(folder, {"m": folded()}, {}))
    second = MemoryUpdated("m123456789", "Second", "B", 0.5)
    write(folder, {"m": folded(second)}, known)
    third = MemoryUpdated("m123456789", "Third", "C", 0.5)
    now = folded(second, third)
    found = read_edits(folder, known, {"m123456789": now}, at(second, third))
    assert (found.edits, found.problems) == ([], [])


def test_an_edit_of_an_old_version_keeps_both(tmp_path: Path) -> None:
    folder = tmp_path / "repo" / ".lerim" / "memory"
    known = published(write(folder, {"m": folded()}, {}))
    path = folder / known["m123456789"].path
    path.write_text(path.read_text().replace("We use tabs.", "My words."))
    later = MemoryUpdated("m123456789", "Changed meanwhile", "B", 0.5)
    now = folded(later)
    found = read_edits(folder, known, {"m123456789": now}, at(later))
    assert found.edits == []
    assert "both are kept" in found.problems[0].problem
    written = write(folder, {"m": now}, known)
    assert written.files == []
    assert "My words." in path.read_text()
    assert "Changed meanwhile" in path.with_suffix(".conflict.md").read_text()


def test_somebody_elses_file_and_links_out_of_the_folder_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "repo" / ".lerim" / "memory"
    theirs = folder / default_path(folded())
    theirs.parent.mkdir(parents=True)
    theirs.write_text("a note of mine")
    assert write(folder, {"m": folded()}, {}).files == []
    assert theirs.read_text() == "a note of mine"
    outside = tmp_path / "outside"
    outside.mkdir()
    linked = tmp_path / "other" / ".lerim" / "memory"
    linked.mkdir(parents=True)
    (linked / "decisions").symlink_to(outside)
    assert "symbolic link" in write(linked, {"m": folded()}, {}).problems[0].problem
    assert list(outside.iterdir()) == []


# --- decay -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("confidence", "days", "archived"),
    [(0.8, 135, False), (0.8, 136, True), (0.9, 140, False), (0.9, 141, True), (0.1, 30, False), (0.1, 31, True)],
)
def test_decay_follows_the_formula_to_the_day(confidence: float, days: int, archived: bool) -> None:
    memory = msgspec.structs.replace(folded(), confidence=confidence, created_ms=0, accessed_ms=0)
    found = decay.decide(memory, days * 86_400_000 + 5, Decay())
    assert (found.archive, found.days) == (archived, days)


def test_use_resets_decay_and_it_can_be_switched_off() -> None:
    old = msgspec.structs.replace(folded(), created_ms=0, accessed_ms=170 * 86_400_000)
    assert not decay.decide(old, 180 * 86_400_000, Decay()).archive
    forgotten = msgspec.structs.replace(folded(), created_ms=0, accessed_ms=0)
    assert not decay.decide(forgotten, 900 * 86_400_000, Decay(enabled=False)).archive
    assert decay.effective(0.8, 900, Decay()) == decay.effective(0.8, 162, Decay())


# --- search ----------------------------------------------------------------------------------------
def index_of(tmp_path: Path, *memories: Memory) -> SearchIndex:
    index = SearchIndex(tmp_path / "search.sqlite3")
    index.catch_up(memories, position=1)
    return index


def test_search_stems_weighs_titles_and_knows_projects(tmp_path: Path) -> None:
    carts = msgspec.structs.replace(folded(), memory_id="carts", title="Carts expire", body="In Redis.")
    other = msgspec.structs.replace(
        folded(), memory_id="other", title="Redis", body="A cart is mentioned.", project_id="q"
    )
    old = msgspec.structs.replace(carts, memory_id="old", status="archived")
    index = index_of(tmp_path, carts, other, old)
    assert [hit.memory_id for hit in index.search("When do the carts expire?", limit=5)] == ["carts", "other"]
    assert [hit.memory_id for hit in index.search("expiring cart", project_ids=["q"], limit=5)] == ["other"]
    assert "old" in [hit.memory_id for hit in index.search("carts", limit=5, include_archived=True)]
    assert index.search("what is the", limit=5) == []


@pytest.mark.parametrize(
    "query", ['"', "a OR", "NEAR(", "x*", "title:x", "'; DROP TABLE texts", "é☃ 漢字", "(", "-", "^a", ""]
)
def test_no_query_is_syntax(tmp_path: Path, query: str) -> None:
    index_of(tmp_path, folded()).search(query, limit=3)


def test_changed_memories_are_found_anew_and_a_damaged_index_is_made_again(tmp_path: Path) -> None:
    index = index_of(tmp_path, folded())
    index.catch_up([folded(MemoryEdited("m123456789", "Spaces", "Now spaces.", 0.8))], position=2)
    assert [hit.memory_id for hit in index.search("spaces", limit=3)] == ["m123456789"]
    assert index.search("tabs", limit=3, project_ids=["none"]) == []
    index.close()
    for path in tmp_path.glob("search.sqlite3*"):
        path.write_bytes(b"garbage" * 1000)
    again = SearchIndex(tmp_path / "search.sqlite3")
    assert again.search("spaces", limit=3) == []


def test_long_queries_are_cut() -> None:
    assert len(words(" ".join(f"word{n}" for n in range(500)))) == 40


def test_published_digests_are_those_of_the_bytes(tmp_path: Path) -> None:
    (file,) = write(tmp_path / "repo" / ".lerim" / "memory", {"m": folded()}, {}).files
    assert file.digest == digest(render(folded()))


def test_an_undone_memory_has_no_file_unless_somebody_edited_it(tmp_path: Path) -> None:
    folder = tmp_path / ".lerim" / "memory"
    kept, gone = folded(), msgspec.structs.replace(folded(), memory_id="n123456789")
    first = write(folder, {one.memory_id: one for one in (kept, gone)}, {})
    published = {file.memory_id: file for file in first.files}
    edited = folder / published[kept.memory_id].path
    edited.write_text(edited.read_text() + "Mine.\n")
    undone = {one.memory_id: msgspec.structs.replace(one, status="undone", version=9) for one in (kept, gone)}
    assert read_edits(folder, published, undone, lambda *_: None).edits == []
    second = write(folder, undone, published)
    assert edited.read_text().endswith("Mine.\n")
    assert not (folder / published[gone.memory_id].path).exists()
    assert ["left alone" in one.problem for one in second.problems] == [True]
    assert [(file.path, file.version) for file in second.files] == [("", 9), ("", 9)]
    assert write(folder, undone, {}) == Written([], [])
