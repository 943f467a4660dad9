"""What git has checked out, so that a file that a branch lacks is told from one that somebody deleted."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import NamedTuple

from lerim_jobs.git import reflog
from lerim_jobs.git.files import GitFolder, git_folder, read_end, read_line, read_whole
from lerim_jobs.ids import digest

__all__ = ["Checkout", "checkout_of", "has_been", "let_git_finish", "move_in"]

_LIST_BYTES = 65_536
_REFS_BYTES = 16_777_216
_NAME_CHARS = 150
_UNSETTLED_S = 0.1
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BRANCH = re.compile(r"refs/(?:[^\x00-\x20\x7f~^:?*\[\\/]+/)*[^\x00-\x20\x7f~^:?*\[\\/]+")
_MOVED = re.compile(r" moved ([0-9a-f]{12})\b")
_BUSY = (
    *("index.lock", "HEAD.lock", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "SQUASH_MSG"),
    *("rebase-merge", "rebase-apply"),
)
"""What lies in git's folder while it changes files, or has stopped and waits for its user, who may also take it back."""


class Checkout(NamedTuple):
    """`text` is another one whenever git may have changed files, empty without git. `is_busy`: git is in the middle of it.
    `is_logged`: the reflog tells every move up to now, and all files of a commit are checked out.
    """

    text: str = ""
    is_busy: bool = False
    is_logged: bool = False


def checkout_of(folder: Path) -> Checkout:
    """What is checked out, and the last switch, reset, merge, rebase, pull or stash, in the repository that the folder lies in.
    Plain commits change no file.
    """
    git = git_folder(folder)
    head = read_line(git.own / "HEAD") if git else ""
    branch = head.removeprefix("ref:").strip()
    if not git or not (_COMMIT if branch == head else _BRANCH).fullmatch(branch):
        return Checkout()
    commit = branch if branch == head else _commit(git, branch)
    entries = reflog.recent(git)
    move, is_followed = reflog.last_move(entries), bool(entries) and commit == entries[-1].new
    sparse = read_end(git.own / "info" / "sparse-checkout", _LIST_BYTES)
    tables = b"".join(read_end(one / "reftable" / "tables.list", _LIST_BYTES) for one in {git.own, git.common})
    text = [
        head[:_NAME_CHARS],
        f"moved {move.key}" if move else "",
        "" if is_followed else commit,
        *(digest(one)[:12] if one else "" for one in (sparse, tables)),
    ]
    is_busy = any(os.path.lexists(git.own / name) for name in _BUSY)
    return Checkout(" ".join(filter(None, text)), is_busy, is_followed and not sparse and not tables)


def move_in(text: str) -> str:
    """The key of the reflog's entry that was the last move when a checkout had this text; empty where there was none."""
    found = _MOVED.search(text)
    return found[1] if found else ""


def has_been(folder: Path, text: str) -> bool:
    """Whether the repository may once have been as an earlier look says; not where its reflog does not have that move: then
    another one lies here, such as a fresh clone.
    """
    git, move = git_folder(folder), move_in(text)
    return not git or not move or reflog.is_known(git, move) is not False


def let_git_finish(folder: Path) -> None:
    """Wait a moment when git has just changed its index: it says only then what it has checked out."""
    git = git_folder(folder)
    try:
        age_s = time.time() - os.lstat(git.own / "index").st_mtime if git else _UNSETTLED_S
    except OSError:
        return
    if 0 <= age_s < _UNSETTLED_S:
        time.sleep(_UNSETTLED_S - age_s)


def _commit(git: GitFolder, branch: str) -> str:
    """The commit of a branch; empty where it has none yet, or none that can be told."""
    if ".." in branch:
        return ""
    loose = next(filter(None, (read_line(one / branch) for one in (git.own, git.common))), "")
    if loose:
        return loose if _COMMIT.fullmatch(loose) else ""
    packed = read_whole(git.common / "packed-refs", _REFS_BYTES)
    found = re.search(rb"^([0-9a-f]{40,64}) " + re.escape(branch.encode()) + rb"$", packed, re.MULTILINE)
    return found[1].decode() if found else ""
