"""Between two looks git moved and a person deleted: what git took stays, what a person deleted is archived. With the real git."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lerim_jobs.git.checkout import checkout_of
from lerim_jobs.git.moves import taken_since
from lerim_jobs.log.events import MemoryArchived
from lerim_jobs.memory import by_hand
from lerim_jobs.memory.files.markdown import render
from tests.git import needs_git
from tests.repositories import Repository

pytestmark = needs_git


@pytest.fixture(params=["loose", "packed"])
def branched(tmp_path: Path, request: pytest.FixtureRequest) -> Repository:
    """A package of a repository, whose objects are loose or packed."""
    repository = Repository(tmp_path, around=tmp_path).branch_off()
    if request.param == "packed":
        repository.git("gc", "-q", "--prune=now")
    return repository


def _forget(repository: Repository, key: str, *, message: str = "") -> None:
    repository.git("rm", "-q", str(repository.shop.path(key)))
    if message:
        repository.commit(message)


def test_a_deletion_on_a_branch_of_its_own_is_a_wish(branched: Repository) -> None:
    branched.git("checkout", "-qb", "tidy")
    _forget(branched, "b", message="forget b")
    assert branched.sync() == {"deleted": 1, "written": 1}
    assert branched.active == ["a"]


def test_a_deletion_just_after_a_switch_that_brings_the_file_is_a_wish(branched: Repository) -> None:
    branched.git("checkout", "-q", "main")
    branched.git("checkout", "-q", "feature")
    branched.shop.path("b").unlink()
    assert branched.sync() == {"deleted": 1, "written": 1}
    assert branched.active == ["a"]


def test_a_deletion_that_a_switch_carried_along_is_a_wish(branched: Repository) -> None:
    branched.git("branch", "same")
    branched.shop.path("b").unlink()
    branched.git("checkout", "-q", "same")
    assert branched.sync() == {"deleted": 1, "written": 1}


def test_a_new_file_that_no_commit_has_is_not_taken_by_a_switch(branched: Repository) -> None:
    branched.shop.add("new")
    branched.sync()
    branched.git("checkout", "-q", "main")
    branched.shop.path("new").unlink()
    assert branched.sync() == {"deleted": 1, "written": 1}
    assert branched.active == ["a", "b"]


@pytest.mark.parametrize("how", [["reset", "-q", "--hard"], ["stash", "-q"], ["checkout", "-qf", "feature"]])
def test_what_was_thrown_away_before_it_was_committed_is_no_wish(branched: Repository, how: list[str]) -> None:
    branched.shop.add("new")
    branched.sync()
    branched.git("add", "-A")
    branched.git(*how)
    assert not branched.shop.path("new").exists()
    branched.sync()
    assert branched.active == ["a", "b", "new"]


def test_what_an_abort_threw_away_is_no_wish(branched: Repository) -> None:
    branched.git("checkout", "-qb", "side", "main")
    branched.commit_file("README", "side")
    branched.git("checkout", "-q", "feature")
    branched.commit_file("README", "feature")
    branched.sync()
    for how in ("merge", "rebase", "cherry-pick"):
        with pytest.raises(AssertionError):
            branched.git(how, "side")
        branched.shop.add(how)
        branched.shop.publish()
        branched.git("add", "-A")
        branched.git(how, "--abort")
        branched.sync()
    assert branched.active == ["a", "b", "cherry-pick", "merge", "rebase"]


def test_a_deletion_and_then_a_branch_that_lacks_the_file_too(branched: Repository) -> None:
    """It was deleted where it was: the branch that comes after it has not taken it."""
    _forget(branched, "b", message="forget b")
    branched.git("checkout", "-q", "main")
    assert branched.sync()["deleted"] == 1
    assert branched.active == ["a"]


def test_a_deletion_that_comes_with_a_merge_is_no_wish_of_this_place(branched: Repository) -> None:
    branched.git("checkout", "-qb", "tidy")
    _forget(branched, "b", message="forget b")
    branched.git("checkout", "-q", "feature")
    branched.git("merge", "-q", "tidy")
    assert branched.sync() == {}
    assert (branched.active, branched.dirty) == (["a", "b"], "")


def test_one_of_many_that_a_branch_lacks_can_be_deleted_there(branched: Repository) -> None:
    branched.git("checkout", "-q", "main")
    branched.shop.path("a").unlink()
    assert branched.sync() == {"deleted": 1, "written": 1}
    assert branched.active == ["b"]
    assert not branched.shop.path("b").exists()


def test_the_folder_that_is_deleted_after_a_switch_is_written_again_with_what_the_branch_has(
    branched: Repository,
) -> None:
    branched.git("checkout", "-q", "main")
    shutil.rmtree(branched.shop.folder)
    assert branched.sync() == {"written": 1}
    assert branched.active == ["a", "b"]
    assert [path for path in branched.shop.files() if "about-b" in path] == []


def test_a_file_that_a_person_took_from_another_branch_is_here_again(branched: Repository) -> None:
    branched.git("checkout", "-q", "main")
    branched.sync()
    path = branched.shop.path("b")
    branched.git("checkout", "-q", "feature", "--", str(path))
    assert branched.sync() == {}
    path.unlink()
    assert branched.sync() == {"deleted": 1, "written": 1}


def test_a_memory_that_is_restored_by_hand_is_written_into_the_branch_that_lacks_it(branched: Repository) -> None:
    """As after a branch that was deleted with its only file."""
    branched.git("checkout", "-q", "main")
    branched.sync()
    branched.git("branch", "-qD", "feature")
    assert by_hand.restore(branched.shop.store, "b", "", meta={}).status == "active"
    assert branched.sync() == {"written": 1}
    assert branched.shop.path("b").read_bytes() == render(branched.shop.memories["b"])
    assert by_hand.restore(branched.shop.store, "b", "", meta={}).version == 1
    assert branched.sync() == {}
    branched.shop.append("a", MemoryArchived("a"))
    branched.sync()
    branched.git("stash", "-qu")
    branched.sync()
    by_hand.restore(branched.shop.store, "a", "", meta={})
    branched.sync()
    assert b"About a" in branched.shop.path("a").read_bytes()


def test_where_the_reflog_does_not_tell_everything_nothing_is_a_wish(branched: Repository) -> None:
    folder, then = branched.shop.folder, checkout_of(branched.shop.folder)
    path = str(branched.shop.path("b").relative_to(folder))
    assert not taken_since(folder, then.text, then)(path)
    branched.git("checkout", "-qb", "other")
    now = checkout_of(folder)
    assert not taken_since(folder, then.text, now)(path)
    assert taken_since(folder, then.text, then)(path), "git moved between"
    assert taken_since(folder, "ref: refs/heads/feature", now)(path), "an older note of what was checked out"
    log = branched.root / ".git" / "logs" / "HEAD"
    lines = log.read_text().splitlines(keepends=True)
    branched.commit_file("README", "one")
    branched.commit_file("README", "two")
    *_, one, two = log.read_text().splitlines(keepends=True)
    log.write_text("".join([*lines, two]))
    assert taken_since(folder, then.text, checkout_of(folder))(path), "a commit is not told"
    log.write_text("".join([*lines, one, two]))
    assert not taken_since(folder, then.text, checkout_of(folder))(path)


def test_commits_alone_since_the_repository_began(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    repository.shop.add("a")
    repository.shop.add("b")
    repository.sync()
    repository.commit("both")
    repository.git("checkout", "-qb", "tidy")
    _forget(repository, "b", message="forget b")
    assert repository.sync() == {"deleted": 1, "written": 1}
