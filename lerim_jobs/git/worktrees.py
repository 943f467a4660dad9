"""Which repository a folder belongs to, also through linked worktrees, and which worktrees a repository has had."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from lerim_jobs.git.files import git_folder, read_line

__all__ = ["WorkTree", "linked", "work_tree"]

_MOST_LINKED = 2_000


class WorkTree(NamedTuple):
    """A folder with files of a repository. `common` is the repository's own folder, one for all of its worktrees; both are real
    paths.
    """

    root: str
    common: str


def work_tree(folder: str) -> WorkTree | None:
    """The innermost one that a folder lies in, also one that is gone below a folder that is not; None outside of git."""
    git = git_folder(Path(folder))
    if git is None:
        return None
    root, mine = str(git.root), str(git.root / ".git")
    # A `.git` file may say anything: a linked worktree's repository must know it as well. Else the folder is taken for a
    # repository of its own, as a submodule is.
    back = "" if str(git.own) == mine else _named(git.own)
    is_linked = git.own != git.common and back and os.path.realpath(back) == os.path.realpath(mine)
    return WorkTree(root, os.path.realpath(git.common if is_linked else mine))


def linked(common: str) -> list[str]:
    """Roots of the linked worktrees that the repository knows; git keeps some time those whose folder is gone."""
    folder = Path(common) / "worktrees"
    try:
        names = sorted(os.listdir(folder))[:_MOST_LINKED]
    except OSError:
        return []
    found = (_named(folder / name) for name in names)
    return [os.path.dirname(git) for git in found if git and os.path.isabs(git)]


def _named(gitdir: Path) -> str:
    """The `.git` file that a worktree's entry in its repository names; newer versions of git may write it relative."""
    named = read_line(gitdir / "gitdir")
    return os.path.normpath(gitdir / named) if named and "\0" not in named else ""
