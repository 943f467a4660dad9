"""Memories and files: whatever people do to the files and whatever happens meanwhile, nobody's words are lost."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from lerim_jobs.errors import BadInput
from lerim_jobs.ids import digest
from lerim_jobs.log.events import (
    MemoryAdded,
    MemoryArchived,
    MemoryEdited,
    MemoryMerged,
    MemoryRedacted,
    MemoryRestored,
    MemoryReverted,
    MemoryUpdated,
)
from lerim_jobs.log.projection import rebuild
from lerim_jobs.machine import whole_file
from lerim_jobs.memory.files import looks
from lerim_jobs.memory.files.markdown import render
from lerim_jobs.memory.files.publishing import publish_now
from lerim_jobs.memory.files.states import FILES, files_of
from lerim_jobs.memory.files.survey import needs_publish
from lerim_jobs.memory.stored import MEMORIES
from lerim_jobs.projects import PROJECTS
from tests.counting_store import CountingStore
from tests.half_written import half_written
from tests.projects import Shop, problems


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


# --- writing ---------------------------------------------------------------------------------------
def test_only_what_changed_is_written_and_names_stay(shop: Shop) -> None:
    shop.add("carts")
    shop.add("tabs", kind="pitfall")
    assert shop.publish() == {"written": 2}
    assert {path.parts[0] for path in map(Path, shop.files())} == {"decisions", "learnings"}
    before, path = shop.path("carts").stat(), shop.path("tabs")
    shop.append("tabs", MemoryUpdated("tabs", "Another title", "B", 0.5))
    assert shop.publish() == {"written": 1}
    assert shop.path("tabs") == path
    assert shop.path("carts").stat() == before
    assert shop.publish() == {}
    state = files_of(shop.store, ["tabs"])["tabs"]
    assert (state.digest, state.published) == (digest(path.read_bytes()), 2)
    assert path.read_bytes() == render(shop.memories["tabs"])


def test_archived_and_merged_memories_move_and_come_back(shop: Shop) -> None:
    shop.add("a")
    shop.add("b")
    shop.publish()
    shop.append("a", MemoryArchived("a", "old"))
    shop.append("b", MemoryMerged("b", "a"))
    assert shop.publish() == {"written": 2}
    assert {path.parts[0] for path in map(Path, shop.files())} == {"archived"}
    shop.append("a", MemoryRestored("a"))
    shop.publish()
    assert sorted(path.parts[0] for path in map(Path, shop.files())) == ["archived", "decisions"]
    assert b"merged_into: a" in shop.path("b").read_bytes()


@pytest.mark.parametrize("gone", ["undone", "redacted"])
def test_undone_and_redacted_memories_have_no_file_but_edited_ones_are_left(shop: Shop, gone: str) -> None:
    event: Any = MemoryRedacted
    if gone == "undone":
        event = lambda key: MemoryReverted(key, 0, "undone", "decision", "T", "B", 0.5)  # noqa: E731
    for key in ("a", "b", "archived-before"):
        shop.add(key)
    shop.append("archived-before", MemoryArchived("archived-before"))
    shop.publish()
    shop.edit("b", "Body of b", "My words about b")
    for key in ("a", "b", "archived-before"):
        shop.append(key, event(key))
    output = shop.publish()
    assert output["removed"] == 1
    assert [Path(path).name.rpartition("-")[2] for path in shop.files()] == ["b.md"]
    assert f"its memory is {gone}: left alone" in problems(output)
    assert shop.memories["b"].status == gone
    assert b"My words" in shop.path("b").read_bytes()


def test_two_memories_never_share_a_file_and_foreign_files_stay(shop: Shop) -> None:
    shop.add("same-title-1", title="Tabs")
    shop.add("same-title-2", title="Tabs")
    shop.publish()
    assert len(shop.files()) == 2
    taken = shop.folder / "archived" / shop.path("same-title-1").relative_to(shop.folder)
    taken.parent.mkdir(parents=True)
    taken.write_text("")
    shop.append("same-title-1", MemoryArchived("same-title-1"))
    shop.publish()
    assert taken.read_text() == ""
    assert shop.path("same-title-1") != taken
    assert shop.path("same-title-1").read_bytes() == render(shop.memories["same-title-1"])


def test_the_mode_of_a_file_stays_and_nothing_temporary_is_left(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    shop.path("a").chmod(0o600)
    dead = half_written(shop.path("a"))
    mine, foreign = whole_file.beside(shop.path("a")), shop.path("a").with_name(".x")
    for path in (mine, foreign):
        path.write_text("half")
    shop.append("a", MemoryUpdated("a", "T", "B", 0.5))
    shop.publish()
    assert shop.path("a").stat().st_mode & 0o777 == 0o600
    assert not dead.exists()
    assert mine.exists()
    assert foreign.exists()


def test_a_full_or_read_only_disk_is_a_problem_not_a_crash(shop: Shop) -> None:
    shop.add("a")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    assert "No space left on device" in problems(publish_now(shop.store, "p", fsync=full))
    assert shop.files() == {}
    assert shop.publish() == {"written": 1}


# --- git -------------------------------------------------------------------------------------------
def test_a_missing_folder_is_written_again_and_nothing_is_archived(shop: Shop) -> None:
    for key in ("a", "b", "c"):
        shop.add(key)
    shop.append("c", MemoryArchived("c"))
    shop.publish()
    before = shop.files()
    shutil.rmtree(shop.repository / ".lerim")
    assert shop.publish() == {"written": 2}
    assert shop.files() == before
    for path in shop.folder.rglob("*.md"):
        path.unlink()
    assert shop.publish() == {"written": 2}
    assert shop.files() == before


def test_a_branch_switch_is_nobodys_wish_and_nothing_is_written_into_the_branch(shop: Shop) -> None:
    head = shop.repository / ".git" / "HEAD"
    head.parent.mkdir()
    head.write_text("ref: refs/heads/main\n")
    shop.add("a")
    shop.publish()
    older = shop.files()
    shop.add("b")
    shop.add("c")
    shop.append("a", MemoryUpdated("a", "New title", "New body.", 0.9))
    shop.publish()
    shop.append("c", MemoryArchived("c"))
    shop.publish()
    newer = shop.files()
    head.write_text("ref: refs/heads/old\n")
    for path in newer:
        (shop.folder / path).unlink()
    for path, data in older.items():
        (shop.folder / path).write_bytes(data)
    assert shop.publish() == {}
    assert shop.publish() == {}
    assert shop.files() == older
    assert [one.status for one in shop.memories.values()] == ["active", "active", "archived"]
    assert shop.memories["a"].version == 2
    shop.path("a").unlink()
    assert shop.publish() == {"deleted": 1, "written": 1}


def test_a_work_tree_of_git_is_known_by_its_own_head(shop: Shop) -> None:
    from lerim_jobs.git.checkout import checkout_of

    assert checkout_of(shop.repository).text == ""
    real = shop.root / "main" / ".git" / "worktrees" / "shop"
    real.mkdir(parents=True)
    (real / "HEAD").write_text("ref: refs/heads/side\n")
    (shop.repository / ".git").write_text("gitdir: ../main/.git/worktrees/shop\n")
    assert checkout_of(shop.repository).text == "ref: refs/heads/side"


def test_rebuilt_from_the_log_every_file_has_the_same_bytes(shop: Shop) -> None:
    for key in ("a", "b", "c", "d"):
        shop.add(key)
    shop.publish()
    shop.edit("a", "Body of a.", "My words.")
    shop.path("b").rename(shop.path("b").with_name("mine.md"))
    (shop.folder / "learnings").mkdir()
    (shop.folder / "learnings" / "new.md").write_text("# New\n\nWords.")
    shop.append("c", MemoryArchived("c", "old"))
    shop.append("d", MemoryMerged("d", "a"))
    shop.publish()
    shop.append("a", MemoryEdited("a", "Title", "More words.", 1.0))
    shop.publish()
    before = shop.files()
    assert len(before) == 5
    shutil.rmtree(shop.folder)
    with shop.store.write() as tx:
        tx.clear_docs(looks.view_of("p"))
    rebuild(shop.store, FILES)
    rebuild(shop.store, MEMORIES)
    rebuild(shop.store, PROJECTS)
    assert shop.publish() == {"written": 5}
    assert shop.files() == before
    assert shop.publish() == {}


# --- what is not ours ------------------------------------------------------------------------------
def test_links_pipes_and_huge_files_are_told_and_archive_nothing(shop: Shop) -> None:
    for key in ("linked", "piped", "huge", "below"):
        shop.add(key, kind="pitfall" if key == "below" else "decision")
    shop.publish()
    outside = shop.root / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("secret")
    for key in ("linked", "piped"):
        shop.path(key).unlink()
    shop.path("linked").symlink_to(outside / "secret.md")
    os.mkfifo(shop.path("piped"))
    with shop.path("huge").open("r+b") as file:
        file.truncate(2_000_000)
    (shop.folder / "learnings").rename(shop.root / "elsewhere")
    (shop.folder / "learnings").symlink_to(outside)
    for key in ("linked", "piped", "huge", "below"):
        shop.append(key, MemoryUpdated(key, "New", "B", 0.5))
    told = problems(shop.publish())
    assert "a symbolic link: not followed" in told
    assert "not a plain file" in told
    assert "larger than 1 MiB" in told
    assert {one.status for one in shop.memories.values()} == {"active"}
    assert [path.name for path in outside.iterdir()] == ["secret.md"]
    assert (outside / "secret.md").read_text() == "secret"


def test_a_linked_memory_folder_is_refused(shop: Shop) -> None:
    outside = shop.root / "outside"
    outside.mkdir()
    (shop.repository / ".lerim").mkdir()
    shop.folder.symlink_to(outside)
    shop.add("a")
    told = problems(shop.publish())
    assert "leads out of the project" in told
    assert list(outside.iterdir()) == []


def test_an_unreadable_folder_archives_nothing(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    folder = shop.path("a").parent
    plain = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied")
        return plain(path)

    os.scandir = refuse  # type: ignore[assignment]
    try:
        output = shop.publish()
    finally:
        os.scandir = plain
    assert "unreadable: Permission denied" in problems(output)
    assert shop.memories["a"].status == "active"


def test_odd_names_are_told_in_plain_letters_and_left_alone(shop: Shop) -> None:
    folder = shop.folder / "decisions"
    folder.mkdir(parents=True)
    (folder / "a\x1b[31m\nb.md").write_text("words")
    Path(os.fsdecode(os.fsencode(folder) + b"/na\xefve.md")).write_text("words")
    output = shop.publish()
    assert shop.memories == {}
    assert problems(output).isascii()
    assert "\\u001b" in problems(output)
    assert len(output["problems"]) == 2


@pytest.mark.parametrize("path", ["../../../evil.md", "/tmp/evil.md", "decisions/../../../evil.md", "a\nb.md", "x.txt"])
def test_no_path_of_the_log_leads_out_of_the_folder(shop: Shop, path: str) -> None:
    from lerim_jobs.log.events import ProjectPublished, PublishedFile

    shop.add("a")
    shop.folder.mkdir(parents=True)
    shop.store.append("project-p", [ProjectPublished("p", [PublishedFile("a", path, "x", 1)])])
    (shop.folder / "keep.txt").write_text("")
    shop.append("a", MemoryUpdated("a", "New", "B", 0.5))
    before = sorted(shop.root.rglob("*"))
    shop.publish()
    assert [one for one in sorted(shop.root.rglob("*")) if one not in before and "archived" not in one.parts] == []


def test_a_project_whose_folder_is_gone_is_named(shop: Shop) -> None:
    shutil.rmtree(shop.repository)
    with pytest.raises(BadInput, match="'shop' is gone"):
        publish_now(shop.store, "p")
    assert not needs_publish(shop.store, shop.project)
    with pytest.raises(BadInput, match="no project 'q'"):
        publish_now(shop.store, "q")


# --- looking cheaply -------------------------------------------------------------------------------
def test_one_change_reads_and_writes_one_file(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from lerim_jobs.memory.files import folder as disk

    for number in range(30):
        shop.add(f"m{number}")
    shop.publish()
    shop.settle()
    shop.publish()
    assert not needs_publish(shop.store, shop.project)
    touched: dict[str, list[Any]] = {"read": [], "rendered": []}
    inodes = {path: path.stat().st_ino for path in shop.folder.rglob("*.md")}

    def spied(name: str, plain: Any) -> Any:
        def call(*given: Any) -> Any:
            touched[name].append(given)
            return plain(*given)

        return call

    monkeypatch.setattr(disk, "read", spied("read", disk.read))
    monkeypatch.setattr("lerim_jobs.memory.files.writing.render", spied("rendered", render))
    shop.append("m7", MemoryUpdated("m7", "New", "B", 0.5))
    assert needs_publish(shop.store, shop.project)
    assert shop.publish() == {"written": 1}
    assert {name: len(calls) for name, calls in touched.items()} == {"read": 1, "rendered": 1}
    assert [path for path, inode in inodes.items() if path.stat().st_ino != inode] == [shop.path("m7")]


def test_looking_at_one_project_reads_no_documents_of_others(tmp_path: Path) -> None:
    shop = Shop(tmp_path, CountingStore())
    store: Any = shop.store
    shop.add("mine")
    shop.publish()
    shop.settle()
    for number in range(50):
        added = MemoryAdded(f"m{number}", f"other-{number % 5}", "insight", "T", "B", 0.8)
        store.append(f"memory-m{number}", [added])
    project, path = shop.project, str(shop.path("mine").relative_to(shop.folder))
    assert not needs_publish(store, project)
    store.read_keys.clear()
    assert not needs_publish(store, project)
    assert store.read_keys == ["p/mine", path]
    shop.append("mine", MemoryUpdated("mine", "New", "B", 0.5))
    assert needs_publish(store, shop.project)


def test_a_change_that_cannot_be_seen_from_outside_is_noticed_while_the_file_is_fresh(shop: Shop) -> None:
    shop.add("a")
    shop.publish()
    path, fresh_ns = shop.path("a"), time.time_ns() + 10**12
    os.utime(path, ns=(fresh_ns, fresh_ns))
    shop.publish()
    with path.open("r+b") as file:
        file.write(path.read_bytes().replace(b"Body of a.", b"BODY of a."))
    os.utime(path, ns=(fresh_ns, fresh_ns))
    assert shop.publish() == {"written": 1, "edited": 1}


@pytest.mark.parametrize("what", ["edit", "new", "delete", "move", "log"])
def test_a_sync_with_nothing_else_to_do_notices(shop: Shop, what: str) -> None:
    shop.add("a")
    shop.publish()
    shop.settle()
    assert not needs_publish(shop.store, shop.project)
    if what == "edit":
        shop.edit("a", "Body of a.", "My words.")
    elif what == "new":
        shop.path("a").with_name("new.md").write_text("Words.")
    elif what == "delete":
        shop.path("a").unlink()
    elif what == "move":
        shop.path("a").rename(shop.path("a").with_name("b.md"))
    else:
        shop.append("a", MemoryArchived("a"))
    assert needs_publish(shop.store, shop.project)
    shop.publish()
    assert not needs_publish(shop.store, shop.project)
