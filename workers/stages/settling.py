"""Whether a session has come to rest, and how much of one that has not may be extracted already.

A session that is extracted while somebody still works in it is paid for in many small pieces, each read without what follows.
So a scheduled sync waits until nothing was added for a while, and takes of a session still in use only its full windows.
"""

from __future__ import annotations

from collections.abc import Sequence

from lerim_jobs.sessions.session import Session
from lerim_jobs.sessions.windows import Window

__all__ = ["NOT_SETTLED", "full_windows_end", "is_settled"]

NOT_SETTLED = "still in use"


def is_settled(session: Session, *, now_ms: int, settle_ms: int) -> bool:
    """Whether nothing was added for `settle_ms`. Turns that were given another chance by hand wait for nothing."""
    return bool(session.again) or now_ms - _last_added_ms(session, now_ms) >= settle_ms


def full_windows_end(windows: Sequence[Window]) -> int | None:
    """The turn before which all windows but the last one end, which may still grow. None: none is full."""
    if len(windows) < 2:
        return None
    full = windows[-2]
    end = full.turn_to - 1 if full.char_to else full.turn_to
    return end if end > windows[0].turn_from else None


def _last_added_ms(session: Session, now_ms: int) -> int:
    """By the session's own records; by its files where those have no time, or one that is still to come."""
    if session.last_ms is not None and session.last_ms <= now_ms:
        return session.last_ms
    return max((mark.mtime_ns // 1_000_000 for mark in session.files.values()), default=0)
