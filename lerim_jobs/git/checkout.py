"""What git has checked out, so that a file that a branch lacks is told from one that somebody deleted."""

from __future__ import annotations

import re
from pathlib import Path

from lerim_jobs.git.files import git_folder, read_end, read_line
from lerim_jobs.ids import digest

__all__ = ["checkout_of"]

_REFLOG_BYTES = 65_536
_COMMITTED = re.compile(rb"\tcommit(?: \((?:amend|initial)\))?: ")
_NAME_CHARS = 150


def checkout_of(folder: Path) -> str:
    """Another text whenever git may have changed files: what is checked out, and its last switch, reset, merge, rebase, pull or
    stash, in the repository that the folder lies in. Plain commits change no file. Empty without git.
    """
    git = git_folder(folder)
    head = read_line(git / "HEAD") if git else ""
    if not git or not head:
        return ""
    return f"{head[:_NAME_CHARS]} {_last_move(git) or _commit(git, head)}".strip()


def _last_move(git: Path) -> str:
    """The reflog's newest entry that is no plain commit, as a digest; empty where no reflog is kept.

    Of more commits in a row than are looked at nothing is known: that may have been a move.
    """
    lines = read_end(git / "logs" / "HEAD", _REFLOG_BYTES).splitlines()
    moved = next((line for line in reversed(lines) if not _COMMITTED.search(line)), lines[0] if lines else b"")
    return digest(moved)[:12] if moved else ""


def _commit(git: Path, head: str) -> str:
    """Without a reflog every new commit may have been a move."""
    common = read_line(git / "commondir")
    ref = head.removeprefix("ref:").strip()
    if ref == head or ".." in ref:
        return ""
    places = [git, *([git / common] if common else [])]
    return next((line[:40] for place in places if (line := read_line(place / ref))), "")
