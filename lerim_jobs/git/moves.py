"""What git did to a folder's files since an earlier look: which of those that are missing it has taken away."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from lerim_jobs.git import reflog
from lerim_jobs.git.checkout import Checkout, checkout_of, move_in
from lerim_jobs.git.files import git_folder
from lerim_jobs.git.reflog import Entry
from lerim_jobs.git.trees import Trees

__all__ = ["taken_since"]

_MOST_MOVES = 500
_PLACING = re.compile(
    r"(?:checkout|clone|merge|pull|rebase|cherry-pick|revert|am|commit \((?:merge|cherry-pick)\))\b[^:]*: "
)
"""Afterwards the files of the second commit are there, and files that no commit has are where they were."""

_THROWING = re.compile(r"[^:]*\(abort\)|checkout: moving from (.*) to \1$")
"""But an abort, and a checkout of what is checked out, which only has a use when it is forced, throw away what was staged."""


def taken_since(folder: Path, text: str, now: Checkout) -> Callable[[str], bool]:
    """Whether git took a file away, asked by its path below the folder, between a look with that `text`, which saw it there, and
    one `now`, which did not.

    True also where that cannot be told; False: nobody but a person can have deleted it.
    """
    git = git_folder(folder)
    entries = reflog.recent(git) if git else []
    moves = _since(entries, move_in(text)) if now.is_logged and checkout_of(folder) == now else None
    if git is None or moves is None:
        return lambda path: True
    trees, below = Trees(git.common), os.path.relpath(os.path.realpath(folder), git.root)
    return lambda path: _is_taken(trees, moves, os.path.normpath(f"{below}/{path}"))


def _is_taken(trees: Trees, moves: list[Entry], path: str) -> bool:
    is_gone = False
    for move in moves:
        before, after = trees.holds(move.old, path), trees.holds(move.new, path)
        is_placing = bool(_PLACING.match(move.what)) and not _THROWING.match(move.what)
        if before is None or after is None:
            return True
        if before and not after:
            is_gone = True
        elif after and not before and is_placing:
            is_gone = False
        elif not before and not after and not is_placing:
            is_gone = True
    return is_gone


def _since(entries: list[Entry], known: str) -> list[Entry] | None:
    """The moves after the known one, oldest first; None where the reflog does not have it, or not everything since."""
    at = next((at for at, one in enumerate(entries) if one.key == known), None)
    if at is None:
        return None
    later = entries[at:]
    if any(one.new != following.old for one, following in pairwise(later)):
        return None
    moves = [one for one in later[1:] if one.is_move]
    return moves if len(moves) <= _MOST_MOVES else None
