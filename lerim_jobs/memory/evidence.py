"""Whether every memory's proof really stands in the stored transcripts."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import msgspec

from lerim_jobs.errors import CorruptLog
from lerim_jobs.log.store import Store
from lerim_jobs.memory.memory import Memory
from lerim_jobs.sessions import transcript
from lerim_jobs.sessions.transcript import Turn, find_quote
from lerim_jobs.views.memories import all_memories
from lerim_jobs.views.projection import find
from lerim_jobs.views.sessions import SESSIONS

__all__ = ["unsupported"]

_KEPT_SESSIONS = 32


def unsupported(store: Store) -> tuple[int, list[tuple[str, str]]]:
    """How many memories were checked, and (memory id, why) of those whose quotes are not in the log.

    Active memories that no person wrote or changed are checked, every quote of theirs.
    """

    @lru_cache(maxsize=_KEPT_SESSIONS)
    def turns_of(stream: str) -> list[Turn]:
        session = find(store, SESSIONS, stream)
        parts = [transcript.decode(store.blob(part.blob)) for part in session.segments] if session else []
        return [turn for part in parts for turn in part.turns]

    checked, found = 0, []
    for memory in sorted(all_memories(store).values(), key=_sessions):
        if memory.status != "active" or memory.by_hand:
            continue
        checked += 1
        reasons = [why for quote in memory.quotes if (why := _missing(turns_of, quote.stream, quote.text))]
        if not memory.quotes:
            reasons = ["it has no quote"]
        if reasons:
            found.append((memory.memory_id, reasons[0]))
    return checked, found


def _sessions(memory: Memory) -> tuple[str, str]:
    """Memories of one session together, so that its transcript is read once."""
    return (memory.quotes[0].stream if memory.quotes else "", memory.memory_id)


def _missing(turns_of: Callable[[str], list[Turn]], stream: str, text: str) -> str:
    try:
        turns = turns_of(stream)
    except (CorruptLog, msgspec.DecodeError):
        return f"the transcript {stream} cannot be read"
    return "" if find_quote(turns, text) else f"its quote is not in {stream}"
