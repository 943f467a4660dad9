"""Published files outlive a power cut before the log names them: one that was lost would look like somebody's deletion."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from lerim_jobs.log.events import MemoryArchived, MemoryRedacted
from lerim_jobs.memory.files.publishing import publish_now
from lerim_jobs.memory.files.survey import needs_publish
from tests.projects import Shop, problems


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


class Disk:
    """Notes what is synced in which order, below a project, and what the log and the folders say by then."""

    def __init__(self, shop: Shop, *, refuse: int = 0) -> None:
        self.shop, self.refuse = shop, refuse
        self.synced: list[str] = []
        self.names: dict[str, set[str]] = {}

    def __call__(self, descriptor: int) -> None:
        about = os.fstat(descriptor)
        root = self.shop.repository
        (path,) = (one for one in (root, *root.rglob("*")) if os.path.samestat(one.stat(), about))
        if self.refuse and path.is_dir():
            raise OSError(self.refuse, os.strerror(self.refuse))
        assert not self.published, "the log names files that a power cut may still take away"
        self.synced.append(str(path.relative_to(root)))
        if path.is_dir():
            self.names[self.synced[-1]] = {one.name for one in path.iterdir()}

    @property
    def published(self) -> int:
        return sum(row.type == "ProjectPublished" for row in self.shop.store.read("project-p")) - self.before

    def publish(self) -> dict[str, Any]:
        self.before = 0
        self.before = self.published
        self.synced.clear()
        return publish_now(self.shop.store, "p", fsync=self)


FOLDERS = [".", ".lerim", ".lerim/memory", ".lerim/memory/decisions"]


def test_published_files_outlive_a_power_cut_and_each_folder_is_synced_once(shop: Shop) -> None:
    keys = [f"m{number}" for number in range(20)]
    for key in keys:
        shop.add(key, kind="pitfall" if key == "m0" else "decision")
    disk = Disk(shop)
    assert disk.publish()["written"] == 20
    assert disk.published == 1
    files, folders = disk.synced[:20], disk.synced[20:]
    assert all(Path(path).suffix == ".tmp" for path in files)
    assert sorted(folders) == [*FOLDERS, ".lerim/memory/learnings"]
    for path in map(shop.path, keys):
        assert path.name in disk.names[str(path.parent.relative_to(shop.repository))]
    assert disk.publish()["written"] == 0
    assert disk.synced == []


def test_moves_and_removals_outlive_a_power_cut(shop: Shop) -> None:
    shop.add("a")
    shop.add("b")
    shop.publish()
    disk = Disk(shop)
    shop.append("a", MemoryArchived("a"))
    disk.publish()
    moved_to = [".lerim/memory/archived", ".lerim/memory/archived/decisions"]
    assert sorted(disk.synced[1:]) == sorted([*FOLDERS, *moved_to])
    assert shop.path("a").name in disk.names[moved_to[1]] - disk.names[FOLDERS[-1]]
    shop.append("b", MemoryRedacted("b"))
    disk.publish()
    assert sorted(disk.synced) == FOLDERS
    assert (disk.names[FOLDERS[-1]], disk.published) == (set(), 1)


def test_what_the_disk_does_not_keep_is_not_called_published(shop: Shop) -> None:
    shop.add("a")
    disk = Disk(shop, refuse=errno.EIO)
    told = problems(disk.publish())
    assert (disk.published, "Input/output error" in told) == (0, True)
    assert needs_publish(shop.store, shop.project)
    disk = Disk(shop)
    assert disk.publish()["written"] == 0
    assert (disk.published, sorted(disk.synced)) == (1, FOLDERS)
    assert shop.publish() == {}


def test_a_file_system_that_syncs_no_folders_is_published_to(shop: Shop) -> None:
    shop.add("a")
    disk = Disk(shop, refuse=errno.EINVAL)
    assert problems(disk.publish()) == ""
    assert disk.published == 1
