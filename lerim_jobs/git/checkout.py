"""What git has checked out, so that a file that a branch lacks is told from one that somebody deleted."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import NamedTuple

from lerim_jobs.git.files import GitFolder, git_folder, read_end, read_line, read_whole
from lerim_jobs.ids import digest

__all__ = ["Checkout", "checkout_of", "has_been", "let_git_finish"]

_REFLOG_BYTES = 65_536
_WHOLE_REFLOG_BYTES = 16_777_216
_REFS_BYTES = 16_777_216
_NAME_CHARS = 150
_UNSETTLED_S = 0.1
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BRANCH = re.compile(r"refs/(?:[^\x00-\x20\x7f~^:?*\[\\/]+/)*[^\x00-\x20\x7f~^:?*\[\\/]+")
_MOVED = re.compile(r" moved ([0-9a-f]{12})\b")
_COMMITTED = re.compile(rb"\tcommit(?: \((?:amend|initial)\))?: ")
_PLACED = re.compile(rb"\t(?:checkout|clone|merge|pull|rebase)\b[^:]*: ")
"""Moves that leave the files of the commit they end at; a reset may have left others, and so may what this does not know."""

_BUSY = (
    *("index.lock", "HEAD.lock", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "SQUASH_MSG"),
    *("rebase-merge", "rebase-apply"),
)
"""What lies in git's folder while it changes files, or has stopped and waits for its user, who may also take it back."""


class Checkout(NamedTuple):
    """`text` is another one whenever git may have changed files, empty without git. `is_busy`: git is in the middle of it.
    `placed` is the commit whose files git's last move left, empty where that is not sure.
    """

    text: str = ""
    is_busy: bool = False
    placed: str = ""


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
    lines = read_end(git.own / "logs" / "HEAD", _REFLOG_BYTES).splitlines()
    move, is_followed = _last_move(lines), bool(lines) and commit == _ends_at(lines[-1])
    sparse = read_end(git.own / "info" / "sparse-checkout", _REFLOG_BYTES)
    tables = b"".join(read_end(one / "reftable" / "tables.list", _REFLOG_BYTES) for one in {git.own, git.common})
    text = [
        head[:_NAME_CHARS],
        f"moved {_short(move)}" if move else "",
        "" if is_followed else commit,
        *(_short(one) if one else "" for one in (sparse, tables)),
    ]
    placed = _ends_at(move) if is_followed and not sparse and _PLACED.search(move) else ""
    is_busy = any(os.path.lexists(git.own / name) for name in _BUSY)
    return Checkout(" ".join(filter(None, text)), is_busy, placed)


def has_been(folder: Path, text: str) -> bool:
    """Whether the repository may once have been as an earlier look says; not where its reflog does not have that move: then
    another one lies here, such as a fresh clone.
    """
    git, moved = git_folder(folder), _MOVED.search(text)
    lines = read_whole(git.own / "logs" / "HEAD", _WHOLE_REFLOG_BYTES).splitlines() if git and moved else []
    return not moved or not lines or any(_short(line) == moved[1] for line in lines)


def let_git_finish(folder: Path) -> None:
    """Wait a moment when git has just changed its index: it says only then what it has checked out."""
    git = git_folder(folder)
    try:
        age_s = time.time() - os.lstat(git.own / "index").st_mtime if git else _UNSETTLED_S
    except OSError:
        return
    if 0 <= age_s < _UNSETTLED_S:
        time.sleep(_UNSETTLED_S - age_s)


def _last_move(lines: list[bytes]) -> bytes:
    """The newest entry of a reflog that is no plain commit; empty where there is none.

    Of more commits in a row than are looked at nothing is known: that may have been a move.
    """
    return next((line for line in reversed(lines) if not _COMMITTED.search(line)), lines[0] if lines else b"")


def _ends_at(line: bytes) -> str:
    """The commit that an entry of a reflog ends at."""
    named = line.split(b" ", 2)[1:2]
    return (
        named[0].decode("ascii", "replace") if named and _COMMIT.fullmatch(named[0].decode("ascii", "replace")) else ""
    )


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


def _short(data: bytes) -> str:
    return digest(data)[:12]
