"""Branches of a repository of several packages, with real syncs and the real git: each package is a project of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.world import World
from tests.git import git, needs_git

pytestmark = [pytest.mark.xdist_group("one machine"), needs_git]


@pytest.fixture
def package(shared: World) -> World:
    """The current project is a folder of the repository, which has a commit on `main`."""
    if not (shared.root / ".git").exists():
        git(shared.root, "init", "-q", "-b", "main")
    (shared.project / "code").write_text("x")
    commit(shared, "code")
    return shared


def commit(world: World, message: str) -> None:
    git(world.root, "add", world.name)
    git(world.root, "commit", "-qm", message)


def files(world: World) -> list[Path]:
    return sorted(world.project.rglob(".lerim/memory/**/*.md"))


def statuses(world: World) -> dict[str, str]:
    return {one["title"]: one["status"] for one in world.json("memory", "list", "--all", "--project", world.name)}


def test_memories_of_a_branch_outlive_it_and_can_be_had_in_another(package: World) -> None:
    package.known("Tabs are four wide")
    commit(package, "tabs")
    git(package.root, "checkout", "-qb", "feature")
    package.session("bbbbbbbb-0000-4000-8000-000000000011", ["REMEMBER: carts live in Redis.", "Thanks."])
    assert package.sync()["memories"]["added"] == 1
    commit(package, "carts")
    before, known = files(package), statuses(package)
    git(package.root, "checkout", "-q", "main")
    for _ in range(2):
        assert package.sync()["status"] == "succeeded"
        assert statuses(package) == known
        assert git(package.root, "status", "--porcelain", package.name) == ""
    git(package.root, "checkout", "-q", "feature")
    package.sync()
    assert (files(package), statuses(package)) == (before, known)
    git(package.root, "checkout", "-q", "main")
    git(package.root, "branch", "-qD", "feature")
    package.sync()
    (carts,) = (one for one in package.memories() if "carts" in one["title"])
    assert carts["path"] is None
    (restored,) = package.json("memory", "restore", carts["memory_id"])
    assert "carts live in Redis" in Path(restored["path"]).read_text()


def test_a_sync_in_the_middle_of_a_merge_tells_it_and_decides_nothing(package: World) -> None:
    package.known("Tabs are four wide")
    package.known("Deploys are on Mondays")
    commit(package, "both")
    git(package.root, "checkout", "-qb", "side")
    (gone,) = (path for path in files(package) if "tabs" in path.name)
    gone.unlink()
    (package.project / "code").write_text("side")
    commit(package, "without tabs")
    git(package.root, "checkout", "-q", "main")
    (package.project / "code").write_text("main")
    commit(package, "main")
    package.sync()
    with pytest.raises(AssertionError):
        git(package.root, "merge", "side")
    assert not gone.exists()
    assert "git is in the middle of something" in package.lerim("sync").stderr
    assert set(statuses(package).values()) == {"active"}
    git(package.root, "merge", "--abort")
    package.sync()
    assert (set(statuses(package).values()), gone.exists()) == ({"active"}, True)
    gone.unlink()
    package.sync()
    assert sorted(statuses(package).values()) == ["active", "archived"]
