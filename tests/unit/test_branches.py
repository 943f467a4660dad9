"""A branch that lacks a memory's file is nobody's wish, and what we write never keeps git from going back. With the real git."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from lerim_jobs.git.checkout import checkout_of
from lerim_jobs.log.events import MemoryArchived, MemoryRedacted, MemoryUpdated
from lerim_jobs.memory.files.survey import needs_publish
from tests.git import needs_git
from tests.repositories import Repository

pytestmark = needs_git


@pytest.fixture(params=["whole", "package"])
def repository(tmp_path: Path, request: pytest.FixtureRequest) -> Repository:
    """The project is the repository, or a folder in it."""
    return Repository(tmp_path, around=None if request.param == "whole" else tmp_path)


@pytest.fixture
def branched(repository: Repository) -> Repository:
    return repository.branch_off()


def test_a_branch_that_lacks_a_memory_archives_and_writes_nothing(branched: Repository) -> None:
    for _ in range(2):
        branched.git("checkout", "-q", "main")
        assert branched.sync() == {}
        assert (branched.active, branched.dirty) == (["a", "b"], "")
        branched.git("checkout", "-q", "feature")
        assert branched.sync() == {}
        assert (branched.active, branched.dirty) == (["a", "b"], "")
    assert [one.version for one in branched.shop.memories.values()] == [2, 1]


def test_a_file_that_is_deleted_by_hand_after_a_switch_is_a_wish(branched: Repository) -> None:
    branched.git("checkout", "-q", "main")
    branched.sync()
    branched.shop.path("a").unlink()
    assert branched.sync() == {"deleted": 1, "written": 1}
    assert branched.active == ["b"]


@pytest.mark.parametrize("how", ["rm", "git rm", "committed"])
def test_a_file_that_is_deleted_on_a_branch_is_a_wish(branched: Repository, how: str) -> None:
    if how == "rm":
        branched.shop.path("b").unlink()
    else:
        branched.git("rm", "-q", str(branched.shop.path("b")))
        if how == "committed":
            branched.commit("forget b")
            branched.git("commit", "-q", "--amend", "--no-edit")
    assert branched.sync() == {"deleted": 1, "written": 1}
    assert branched.active == ["a"]


def test_commits_alone_are_no_switch(branched: Repository) -> None:
    branched.git("checkout", "-q", "main")
    before = checkout_of(branched.shop.repository).text
    for number in range(3):
        (branched.root / "README").write_text(str(number))
        branched.commit(f"commit {number}")
    branched.git("commit", "-q", "--amend", "-m", "better")
    assert checkout_of(branched.shop.repository).text == before


@pytest.mark.parametrize(
    ("there", "back"),
    [
        (["checkout", "-q", "main"], ["checkout", "-q", "feature"]),
        (["checkout", "-q", "--detach", "main"], ["checkout", "-q", "feature"]),
        (["reset", "-q", "--hard", "main"], ["reset", "-q", "--hard", "ORIG_HEAD"]),
        (["checkout", "-qb", "new", "main"], ["merge", "-q", "feature"]),
        (["checkout", "-qb", "other", "main"], ["rebase", "-q", "feature"]),
        (["checkout", "-qb", "picked", "main"], ["cherry-pick", "feature"]),
    ],
)
def test_whatever_git_did_it_can_be_taken_back(branched: Repository, there: list[str], back: list[str]) -> None:
    files = branched.shop.files()
    branched.git(*there)
    assert branched.sync() == {}
    assert (branched.active, branched.dirty, len(branched.shop.files())) == (["a", "b"], "", 1)
    branched.git(*back)
    assert branched.sync() == {}
    assert (branched.active, branched.dirty, branched.shop.files()) == (["a", "b"], "", files)


def test_stashed_memories_are_not_deleted(repository: Repository) -> None:
    repository.shop.add("a")
    repository.sync()
    repository.commit("a")
    repository.shop.add("b")
    repository.sync()
    repository.git("stash", "-qu")
    assert repository.sync() == {}
    repository.git("stash", "pop", "-q")
    assert repository.sync() == {}
    assert (repository.active, len(repository.shop.files())) == (["a", "b"], 2)


def test_the_first_branch_without_any_memory_stays_without(repository: Repository) -> None:
    repository.git("checkout", "-qb", "feature")
    repository.shop.add("a")
    repository.sync()
    repository.commit("a")
    repository.git("checkout", "-q", "main")
    assert repository.sync() == {}
    assert (repository.active, repository.dirty, repository.shop.files()) == (["a"], "", {})
    repository.shop.add("new")
    repository.sync()
    assert len(repository.shop.files()) == 1
    repository.commit("new")
    repository.git("checkout", "-q", "feature")
    assert repository.sync() == {}
    assert repository.dirty == ""


def test_what_changed_meanwhile_is_written_where_the_file_is(branched: Repository) -> None:
    branched.git("checkout", "-q", "main")
    branched.sync()
    branched.shop.append("b", MemoryUpdated("b", "About b", "More of b.", 0.9))
    branched.shop.append("a", MemoryUpdated("a", "About a", "All of a.", 0.9))
    assert branched.sync() == {"written": 1}
    assert b"All of a." in branched.shop.path("a").read_bytes()
    branched.commit("all of a")
    branched.git("checkout", "-q", "feature")
    assert branched.sync() == {"written": 1}
    assert b"More of b." in branched.shop.path("b").read_bytes()
    assert b"More of a." in branched.shop.path("a").read_bytes()
    assert branched.active == ["a", "b"]


def test_what_was_archived_on_one_branch_is_not_restored_by_another(branched: Repository) -> None:
    branched.shop.append("a", MemoryArchived("a", "old"))
    branched.sync()
    branched.commit("archived")
    branched.git("checkout", "-q", "main")
    assert branched.sync() == {}
    assert (branched.active, branched.dirty) == (["b"], "")
    branched.git("checkout", "-q", "feature")
    assert branched.sync() == {}
    assert (branched.active, branched.dirty) == (["b"], "")
    assert "archived/" in str(branched.shop.path("a"))


def test_what_was_removed_for_good_is_removed_from_every_branch_that_comes(branched: Repository) -> None:
    branched.git("checkout", "-q", "main")
    branched.sync()
    branched.shop.append("b", MemoryRedacted("b"))
    branched.sync()
    branched.git("checkout", "-q", "feature")
    branched.sync()
    assert [path for path in branched.shop.files() if "about-b" in path] == []


def test_words_that_a_person_edited_on_another_branch_are_read(branched: Repository) -> None:
    branched.git("checkout", "-qb", "colleague")
    path = branched.shop.path("a")
    path.write_text(path.read_text().replace("More of a.", "My words."))
    branched.commit("edited without lerim")
    branched.git("checkout", "-q", "feature")
    branched.git("merge", "-q", "colleague")
    assert branched.sync()["edited"] == 1
    assert branched.shop.memories["a"].by_hand


def test_a_switch_alone_is_looked_at_so_that_the_next_deletion_counts(branched: Repository) -> None:
    assert not needs_publish(branched.shop.store, branched.shop.project)
    branched.git("checkout", "-qb", "same")
    assert needs_publish(branched.shop.store, branched.shop.project)
    branched.sync()
    assert not needs_publish(branched.shop.store, branched.shop.project)


def test_a_linked_worktree_and_a_repository_without_reflog_are_known(branched: Repository, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    branched.git("worktree", "add", "-q", "-b", "side", str(linked), "main")
    before = checkout_of(linked).text
    assert before.startswith("ref: refs/heads/side ")
    assert before != checkout_of(branched.shop.repository).text
    shutil.rmtree(branched.root / ".git" / "logs")
    without = checkout_of(branched.shop.repository).text
    assert without == f"ref: refs/heads/feature {branched.git('rev-parse', 'HEAD').strip()}"


def test_odd_files_of_git_are_no_git(tmp_path: Path) -> None:
    assert checkout_of(tmp_path).text == ""
    os.mkfifo(tmp_path / ".git")
    assert checkout_of(tmp_path).text == ""
    (tmp_path / ".git").unlink()
    (tmp_path / ".git").write_bytes(b"gitdir: " + b"\xff\0" * 4000)
    assert checkout_of(tmp_path).text == ""
    (tmp_path / ".git").unlink()
    (tmp_path / ".git").mkdir()
    os.mkfifo(tmp_path / ".git" / "HEAD")
    assert checkout_of(tmp_path).text == ""
