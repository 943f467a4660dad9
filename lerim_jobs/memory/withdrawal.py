"""What becomes of memories when the user takes back what proved them: they are archived, through the log like every change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.log.events import MemoryArchived, Quote
from lerim_jobs.log.projection import find
from lerim_jobs.log.store import Store
from lerim_jobs.memory.checks.proof import RULES
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.stored import all_memories, memory_stream
from lerim_jobs.sessions.ranges import Range, holds
from lerim_jobs.sessions.session import SESSIONS

__all__ = ["REASON", "archived", "proves"]

REASON = "what proved it was taken back"


def archived(store: Store, taken_back: Mapping[str, Iterable[Range]]) -> list[Effect]:
    """Archive the memories that have no proof left once these turns are gone; `taken_back` has ranges of turns by the stream of
    their session. What somebody wrote or edited by hand stays.
    """
    if not taken_back:
        return []

    @cache
    def gone(stream: str) -> list[Range]:
        session = find(store, SESSIONS, stream)
        return [*taken_back.get(stream, ()), *(session.withdrawn if session else ())]

    effects = []
    for memory in all_memories(store).values():
        touched = any(quote.stream in taken_back for quote in memory.quotes)
        if memory.status != "active" or memory.by_hand or not touched:
            continue
        if not proves(memory, [one for one in memory.quotes if not holds(gone(one.stream), one.turn)]):
            event = MemoryArchived(memory.memory_id, REASON)
            effects.append(Effect(memory_stream(memory.memory_id), [event], memory.version))
    return effects


def proves(memory: Memory, standing: Iterable[Quote]) -> bool:
    """Whether the quotes that stand are enough for it: a rule needs one of the user's."""
    return any(memory.kind not in RULES or quote.speaker == "user" for quote in standing)
