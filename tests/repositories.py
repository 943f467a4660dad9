"""A git repository around a project, moved by the real git, for tests of what branches do to memory files."""

from __future__ import annotations

from pathlib import Path

from lerim_jobs.log.events import MemoryUpdated
from tests.git import git
from tests.projects import Shop

__all__ = ["Repository"]


class Repository:
    """A repository whose folder `shop` is a registered project."""

    def __init__(self, root: Path, *, around: Path | None = None) -> None:
        self.root, self.shop = around or root / "shop", Shop(root)
        self.git("init", "-q", "-b", "main")
        (self.root / "README").write_text("x")
        (self.shop.repository / "code").write_text("x")
        self.commit("start")

    def git(self, *arguments: str) -> str:
        return git(self.root, *arguments)

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message)

    def commit_file(self, name: str, text: str) -> None:
        """A file of nobody's, in the repository's folder."""
        (self.root / name).write_text(text)
        self.commit(f"{name}: {text}")

    def sync(self) -> dict[str, object]:
        """What a sync does at its end, twice as the next one would."""
        found = self.shop.publish()
        assert self.shop.publish() == {}
        return found

    @property
    def active(self) -> list[str]:
        return sorted(key for key, one in self.shop.memories.items() if one.status == "active")

    @property
    def dirty(self) -> str:
        return self.git("status", "--porcelain", "-uall")

    def branch_off(self) -> Repository:
        """`a` on main; on the branch `feature`, which is checked out, `a` in a second version and `b`; all committed."""
        self.shop.add("a")
        self.sync()
        self.commit("a")
        self.git("checkout", "-qb", "feature")
        self.shop.add("b")
        self.shop.append("a", MemoryUpdated("a", "About a", "More of a.", 0.9))
        self.sync()
        self.commit("b")
        return self
