"""Which registered project a folder belongs to: by where it lies, by git, and by where its work has lain before."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import PurePath
from typing import NamedTuple, TypeVar

from lerim_jobs.git.worktrees import WorkTree, linked, work_tree
from lerim_jobs.projects import Project

__all__ = ["Belonging", "Folders", "match"]

K = TypeVar("K")


class Belonging(NamedTuple):
    """A folder's project. `place` is a folder of the project's elsewhere that only git names so far, None where the log does."""

    project_id: str
    place: str | None = None


class Folders:
    """The folders of projects on this host. What git says is asked once for each folder: make a new one for each look."""

    def __init__(self, projects: Iterable[Project]) -> None:
        self._projects = {one.project_id: one for one in projects}
        self._paths = {key: one.path for key, one in self._projects.items()}
        self._asked: dict[str, WorkTree | None] = {}

    def project_of(self, cwd: str | None) -> str | None:
        """The id of the project a session in this folder belongs to, None for none."""
        found = self.belonging(cwd)
        return found.project_id if found else None

    def belonging(self, cwd: str | None) -> Belonging | None:
        """By the innermost of these: a project's folder that contains it; a worktree of a project's repository, at the project's
        place in it. A folder that is gone belongs where a worktree lay that the log or git remembers there.

        A relative folder belongs nowhere: relative to what is not known.
        """
        if not cwd or not os.path.isabs(cwd) or "\0" in cwd:
            return None
        cwd = os.path.normpath(cwd)
        inside = match(cwd, self._paths)
        tree = self._tree(cwd)
        if tree and (found := self._of_repository(cwd, tree, inside)):
            return found
        if inside:
            return Belonging(inside)
        return None if os.path.lexists(cwd) else self._gone(cwd)

    def _of_repository(self, cwd: str, tree: WorkTree, inside: str | None) -> Belonging | None:
        """The project whose place in the repository is that of the folder in its worktree."""
        if inside and not _contains(os.path.realpath(self._paths[inside]), tree.root):
            return None
        below = os.path.relpath(os.path.realpath(cwd), tree.root)
        best: tuple[int, bool, str, str] = (-1, False, "", "")
        for key, (its_tree, its_place) in self._places_in_git.items():
            if its_tree.common == tree.common and _contains(its_place, below):
                best = max(best, (len(PurePath(its_place).parts), its_tree.root == tree.root, key, its_place))
        *_, found, its_place = best
        if found in ("", inside):
            return None
        return self._at(found, os.path.normpath(os.path.join(tree.root, its_place)))

    def _at(self, project_id: str, place: str) -> Belonging:
        return Belonging(project_id, None if place in self._projects[project_id].places else place)

    def _gone(self, cwd: str) -> Belonging | None:
        known = match(
            cwd, {(key, n): place for key, one in self._projects.items() for n, place in enumerate(one.places)}
        )
        if known:
            return Belonging(known[0])
        remembered = match(cwd, self._remembered)
        return self._at(remembered[0], self._remembered[remembered]) if remembered else None

    @cached_property
    def _places_in_git(self) -> dict[str, tuple[WorkTree, str]]:
        """By project id: the worktree its folder lies in, and where in it."""
        found = {}
        for key, path in self._paths.items():
            if tree := self._tree(path):
                found[key] = tree, os.path.relpath(os.path.realpath(path), tree.root)
        return found

    @cached_property
    def _remembered(self) -> dict[tuple[str, str], str]:
        """Where git remembers places of projects, by project and worktree."""
        by_common = {tree.common: linked(tree.common) for tree, _ in self._places_in_git.values()}
        return {
            (key, root): os.path.normpath(os.path.join(root, place))
            for key, (tree, place) in self._places_in_git.items()
            for root in by_common[tree.common]
        }

    def _tree(self, folder: str) -> WorkTree | None:
        if folder not in self._asked:
            self._asked[folder] = work_tree(folder)
        return self._asked[folder]


def match(cwd: str, folders: Mapping[K, str]) -> K | None:
    """The key of the folder that is, or contains, the working directory; of several the deepest. None: no folder.

    Links are resolved on both sides, because a session records either form. A relative directory belongs nowhere.
    """
    if not os.path.isabs(cwd) or "\0" in cwd:
        return None
    places = {PurePath(os.path.normpath(cwd)), PurePath(os.path.realpath(cwd))}
    best: tuple[int, K] | None = None
    for key, folder in folders.items():
        for root in _both(folder):
            if any(place == root or root in place.parents for place in places) and (
                best is None or (len(root.parts), str(key)) > (best[0], str(best[1]))
            ):
                best = len(root.parts), key
    return best[1] if best else None


def _both(folder: str) -> Iterator[PurePath]:
    yield PurePath(folder)
    yield PurePath(os.path.realpath(folder))


def _contains(folder: str, other: str) -> bool:
    return folder == "." or other == folder or other.startswith(f"{folder}{os.sep}")
