"""What git wrote down about moves of HEAD: one line each, the newest last."""

from __future__ import annotations

import re
from typing import NamedTuple

from lerim_jobs.git.files import GitFolder, read_end, read_whole
from lerim_jobs.ids import digest

__all__ = ["Entry", "is_known", "last_move", "recent"]

_MOST_BYTES = 65_536
_MOST_BYTES_OF_ALL = 16_777_216
_LINE = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) ([0-9a-f]{40}|[0-9a-f]{64}) [^\t]*\t?(.*)")
_COMMITTED = re.compile(r"commit(?: \((?:amend|initial)\))?: ")


class Entry(NamedTuple):
    """HEAD went from one commit to another, by names in hex; zeros stand for none. `what` git says it did. `key` tells the entry
    from all others.
    """

    old: str
    new: str
    what: str
    key: str

    @property
    def is_move(self) -> bool:
        """Whether files may have changed by it; a plain commit changes none."""
        return not _COMMITTED.match(self.what)


def recent(git: GitFolder) -> list[Entry]:
    """The newest entries, without any that is cut or odd; empty where no reflog is kept."""
    lines = read_end(git.own / "logs" / "HEAD", _MOST_BYTES).splitlines()
    return [_entry(found) for line in lines if (found := _LINE.fullmatch(line))]


def last_move(entries: list[Entry]) -> Entry | None:
    """The newest that is no plain commit; where there is none, the oldest, before which anything may have been."""
    return next((one for one in reversed(entries) if one.is_move), entries[0] if entries else None)


def is_known(git: GitFolder, key: str) -> bool | None:
    """Whether any entry has the key, also an old one; None where no reflog is kept, and of a very large one."""
    lines = read_whole(git.own / "logs" / "HEAD", _MOST_BYTES_OF_ALL).splitlines()
    return any(_key(line) == key for line in lines) if lines else None


def _entry(line: re.Match[bytes]) -> Entry:
    old, new, what = (part.decode("utf-8", "replace") for part in line.groups())
    return Entry(old, new, what, _key(line[0]))


def _key(line: bytes) -> str:
    return digest(line)[:12]
