"""A session belongs to its project wherever it lies: in linked worktrees, in those that are gone, and nowhere else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lerim_jobs.git.worktrees import linked, work_tree
from lerim_jobs.projects import Project
from lerim_jobs.sessions.projects import Belonging, Folders
from tests.git import git, needs_git

pytestmark = needs_git


def repository(folder: Path, *below: str) -> Path:
    for one in ("", *below):
        (folder / one).mkdir(parents=True, exist_ok=True)
        (folder / one / "code").write_text("x")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "start")
    return folder


def worktree(of: Path, at: Path, branch: str) -> Path:
    git(of, "worktree", "add", "-q", "-b", branch, str(at))
    return at


def project(path: Path, *places: Path, key: str = "shop") -> Project:
    return Project(key, key, str(path), "h", places=[str(one) for one in places])


def of(cwd: Path | str, *projects: Project) -> Belonging | None:
    return Folders(projects).belonging(str(cwd))


def test_a_linked_worktree_belongs_to_the_project_of_its_repository(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop", "src")
    side = worktree(shop, tmp_path / "elsewhere" / "side", "side")
    assert of(side, project(shop)) == Belonging("shop", str(side))
    assert of(side / "src", project(shop)) == Belonging("shop", str(side))
    assert of(side / "not" / "made", project(shop)) == Belonging("shop", str(side))
    assert of(side, project(shop, side)) == Belonging("shop")
    assert of(shop / "src", project(shop)) == Belonging("shop")
    assert of(tmp_path, project(shop)) is None


def test_the_main_folder_belongs_to_a_project_that_is_a_worktree(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop")
    side = worktree(shop, tmp_path / "side", "side")
    other = worktree(shop, tmp_path / "other", "other")
    assert of(shop, project(side)) == Belonging("shop", str(shop))
    assert of(other, project(side)) == Belonging("shop", str(other))
    both = (project(side, key="side"), project(shop))
    assert (of(side, *both), of(shop, *both)) == (Belonging("side"), Belonging("shop"))


def test_packages_of_one_repository_are_told_apart_in_its_worktrees(tmp_path: Path) -> None:
    mono = repository(tmp_path / "mono", "packages/app", "packages/api", "packages/api/inner")
    side = worktree(mono, tmp_path / "side", "side")
    app, api = (project(mono / "packages" / name, key=name) for name in ("app", "api"))
    inner = project(mono / "packages" / "api" / "inner", key="inner")
    assert of(side / "packages" / "app", app, api, inner) == Belonging("app", str(side / "packages" / "app"))
    assert of(side / "packages" / "api" / "x", app, api, inner) == Belonging("api", str(side / "packages" / "api"))
    found = of(side / "packages" / "api" / "inner", app, api, inner)
    assert found == Belonging("inner", str(side / "packages" / "api" / "inner"))
    assert of(side, app, api) is None
    assert of(side / "packages" / "apple", app, api) is None
    whole = of(side / "packages", app, project(mono, key="mono"))
    assert whole == Belonging("mono", str(side))


@pytest.mark.parametrize("gone", ["deleted", "removed"])
def test_a_worktree_that_is_gone_is_remembered(tmp_path: Path, gone: str) -> None:
    shop = repository(tmp_path / "shop")
    side = worktree(shop, tmp_path / "trees" / "ab12" / "shop", "side")
    if gone == "deleted":
        shutil.rmtree(side)
        assert of(side / "src", project(shop)) == Belonging("shop", str(side))
    else:
        git(shop, "worktree", "remove", str(side))
        assert of(side, project(shop)) is None
    assert of(side / "src", project(shop, side)) == Belonging("shop")
    assert of(side.parent, project(shop, side)) is None


def test_what_lies_there_now_is_asked_before_what_is_remembered(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop")
    other = repository(tmp_path / "side")
    assert of(other, project(shop, other)) is None
    assert of(other / "gone", project(shop, other)) is None or of(other / "gone", project(shop, other)) == Belonging(
        "shop"
    )
    plain = tmp_path / "plain"
    plain.mkdir()
    assert of(plain, project(shop, plain)) is None


def test_a_worktree_inside_another_project_belongs_to_its_own_repository(tmp_path: Path) -> None:
    shop, cart = repository(tmp_path / "shop"), repository(tmp_path / "cart")
    inside = worktree(cart, shop / "trees" / "cart", "side")
    own = worktree(shop, shop / ".claude" / "worktrees" / "x", "own")
    both = (project(shop), project(cart, key="cart"))
    assert of(inside, *both) == Belonging("cart", str(inside))
    assert of(own, *both) == Belonging("shop")
    assert of(repository(shop / "vendored"), *both) == Belonging("shop")


def test_a_bare_repository_has_worktrees_only(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop")
    git(tmp_path, "clone", "-q", "--bare", str(shop), "bare.git")
    one = worktree(tmp_path / "bare.git", tmp_path / "one", "one")
    two = worktree(tmp_path / "bare.git", tmp_path / "two", "two")
    assert of(two, project(one)) == Belonging("shop", str(two))
    assert of(shop, project(one)) is None


def test_a_folder_that_only_says_it_is_a_worktree_is_none(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop")
    side = worktree(shop, tmp_path / "side", "side")
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    shutil.copy(side / ".git", hostile / ".git")
    assert of(hostile, project(shop)) is None
    (hostile / ".git").write_text(f"gitdir: {shop / '.git'}\n")
    assert of(hostile, project(shop)) is None
    (hostile / ".git").write_bytes(b"gitdir: \xff\x00\n")
    assert of(hostile, project(shop)) is None


def test_a_link_to_a_worktree_is_the_worktree(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop")
    side = worktree(shop, tmp_path / "side", "side")
    (tmp_path / "link").symlink_to(side)
    found = of(tmp_path / "link", project(shop))
    assert found == Belonging("shop", str(side))


@pytest.mark.parametrize("cwd", ["", "relative/shop", "\0", "/" + "x/" * 3000])
def test_odd_folders_belong_nowhere(tmp_path: Path, cwd: str) -> None:
    assert of(cwd, project(repository(tmp_path / "shop"))) is None


def test_what_git_lists_may_be_anything(tmp_path: Path) -> None:
    shop = repository(tmp_path / "shop")
    common = str(shop / ".git")
    assert linked(common) == []
    for name, text in (("a", b"relative/.git\n"), ("b", b"\xff\0"), ("c", b""), ("d", b"/srv/there/.git\n")):
        (shop / ".git" / "worktrees" / name).mkdir(parents=True)
        (shop / ".git" / "worktrees" / name / "gitdir").write_bytes(text)
    (shop / ".git" / "worktrees" / "file").write_text("x")
    assert "/srv/there" in linked(common)
    assert all(Path(one).is_absolute() for one in linked(common))
    assert work_tree(str(tmp_path)) is None or work_tree(str(tmp_path)) != work_tree(str(shop))
