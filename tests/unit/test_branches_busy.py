"""What git has begun and not ended is nobody's wish, and odd repositories lose no memory. With the real git."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from lerim_jobs.git import checkout
from lerim_jobs.git.checkout import checkout_of
from tests.git import needs_git
from tests.projects import problems
from tests.repositories import Repository

pytestmark = needs_git


@pytest.fixture(params=["whole", "package"])
def branched(tmp_path: Path, request: pytest.FixtureRequest) -> Repository:
    """The project is the repository, or a folder in it."""
    return Repository(tmp_path, around=None if request.param == "whole" else tmp_path).branch_off()


@pytest.fixture
def conflicting(branched: Repository) -> Repository:
    """A branch `side` without `b`, which cannot be merged without a hand."""
    branched.git("checkout", "-qb", "side")
    branched.git("rm", "-q", str(branched.shop.path("b")))
    (branched.root / "README").write_text("side")
    branched.commit("without b")
    branched.git("checkout", "-q", "feature")
    (branched.root / "README").write_text("feature")
    branched.commit("feature")
    branched.sync()
    return branched


@pytest.mark.parametrize(
    "how", [["merge", "side"], ["cherry-pick", "side"], ["rebase", "side"], ["merge", "--squash", "side"]]
)
def test_what_git_has_begun_is_no_wish_and_can_be_taken_back(conflicting: Repository, how: list[str]) -> None:
    with pytest.raises(AssertionError):
        conflicting.git(*how)
    assert not conflicting.shop.path("b").exists()
    for _ in range(2):
        assert "git is in the middle of something" in problems(conflicting.shop.publish())
    back = ["reset", "-q", "--merge"] if "--squash" in how else [how[0], "--abort"]
    conflicting.git(*back)
    conflicting.sync()
    assert (conflicting.active, conflicting.dirty) == (["a", "b"], "")
    assert conflicting.shop.path("b").exists()


def test_a_deletion_that_was_merged_with_a_hand_archives_nothing(conflicting: Repository) -> None:
    with pytest.raises(AssertionError):
        conflicting.git("merge", "side")
    conflicting.shop.publish()
    (conflicting.root / "README").write_text("both")
    conflicting.commit("merged")
    conflicting.sync()
    assert (conflicting.active, conflicting.dirty) == (["a", "b"], "")


def test_files_that_vanish_while_git_is_at_work_are_looked_at_when_it_is_through(branched: Repository) -> None:
    lock, path = branched.root / ".git" / "index.lock", branched.shop.path("b")
    lock.write_text("")
    data = path.read_bytes()
    path.unlink()
    assert "missing files, 1," in problems(branched.shop.publish())
    lock.unlink()
    path.write_bytes(data)
    assert branched.sync() == {}
    assert branched.active == ["a", "b"]


def test_git_that_has_not_yet_told_what_it_did_is_waited_for(
    branched: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A switch changes files, then the index, then HEAD."""
    branched.shop.path("b").unlink()
    os.utime(branched.root / ".git" / "index")
    monkeypatch.setattr(checkout, "_UNSETTLED_S", 60)
    git_goes_on = lambda _: (branched.root / ".git" / "HEAD").write_text("ref: refs/heads/main\n")  # noqa: E731
    monkeypatch.setattr(time, "sleep", git_goes_on)
    assert "missing files, 1," in problems(branched.shop.publish())
    assert branched.active == ["a", "b"]


def test_a_switch_that_was_seen_half_way_is_a_switch_when_it_is_through(branched: Repository) -> None:
    branched.git("checkout", "-q", "main")
    lock = branched.root / ".git" / "index.lock"
    lock.write_text("")
    branched.shop.publish()
    lock.unlink()
    branched.sync()
    assert (branched.active, branched.dirty) == (["a", "b"], "")


def test_a_sparse_checkout_archives_nothing(branched: Repository) -> None:
    (branched.root / "other").mkdir()
    (branched.root / "other" / "x").write_text("x")
    branched.shop.add("c", kind="pitfall")
    branched.sync()
    branched.commit("more")
    branched.sync()
    learnings = branched.shop.folder.relative_to(branched.root) / "learnings"
    branched.git("sparse-checkout", "set", "other", str(learnings))
    branched.sync()
    assert (branched.active, branched.dirty, len(branched.shop.files())) == (["a", "b", "c"], "", 1)
    branched.git("sparse-checkout", "disable")
    branched.sync()
    assert (branched.active, branched.dirty, len(branched.shop.files())) == (["a", "b", "c"], "", 3)


def test_packed_branches_a_split_index_and_a_move_without_reflog_are_read(branched: Repository) -> None:
    branched.git("pack-refs", "--all")
    branched.git("update-index", "--split-index")
    branched.sync()
    log = branched.root / ".git" / "logs" / "HEAD"
    before = log.read_bytes()
    branched.git("reset", "-q", "--hard", "main")
    log.write_bytes(before)
    branched.git("pack-refs", "--all")
    assert branched.sync() == {}
    assert (branched.active, branched.dirty) == (["a", "b"], "")


def test_branches_kept_in_a_table_are_told_apart_by_the_table(branched: Repository) -> None:
    git = branched.root / ".git"
    (git / "HEAD").write_text("ref: refs/heads/.invalid\n")
    shutil.rmtree(git / "logs")
    shutil.rmtree(git / "refs" / "heads")
    (git / "reftable").mkdir()
    (git / "reftable" / "tables.list").write_text("0x1-0x1-a.ref\n")
    branched.shop.publish()
    (git / "reftable" / "tables.list").write_text("0x1-0x2-b.ref\n")
    branched.shop.path("b").unlink()
    branched.shop.publish()
    assert branched.active == ["a", "b"]


def test_a_repository_that_began_or_ended_meanwhile(branched: Repository) -> None:
    kept = branched.root / "kept"
    (branched.root / ".git").rename(kept)
    branched.sync()
    branched.shop.path("a").unlink()
    assert branched.sync() == {"deleted": 1, "written": 1}
    kept.rename(branched.root / ".git")
    branched.git("checkout", "-qf", "main")
    branched.shop.publish()
    assert branched.shop.memories["b"].status == "active"


def test_a_branch_without_any_commit_lacks_every_memory(branched: Repository) -> None:
    branched.git("switch", "-q", "--orphan", "empty")
    branched.shop.repository.mkdir(exist_ok=True)
    branched.sync()
    assert (branched.active, branched.dirty) == (["a", "b"], "")


def test_memories_that_another_clone_never_had_are_written_into_it(tmp_path: Path) -> None:
    branched = Repository(tmp_path).branch_off()
    (branched.root / ".gitignore").write_text(".lerim\n")
    branched.git("rm", "-rq", "--cached", ".lerim")
    branched.commit("memories are private")
    branched.sync()
    files = branched.shop.files()
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(branched.root), str(clone)], check=True)
    shutil.rmtree(branched.root)
    clone.rename(branched.root)
    branched.sync()
    assert (branched.shop.files(), branched.active) == (files, ["a", "b"])


def test_nothing_of_files_that_are_not_gits_is_told(tmp_path: Path) -> None:
    git = tmp_path / "p" / ".git"
    git.mkdir(parents=True)
    (tmp_path / "secret").write_text("ref: refs/heads/hunter2\n")
    os.symlink(tmp_path / "secret", git / "HEAD")
    assert checkout_of(tmp_path / "p").text == ""
    (git / "HEAD").unlink()
    (git / "HEAD").write_text("hunter2\n")
    assert checkout_of(tmp_path / "p").text == ""
    (git / "HEAD").write_text("ref: ../../../secret\n")
    assert "hunter2" not in checkout_of(tmp_path / "p").text
