"""Which turn of a transcript a quote is from: the same few words may be said in several."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lerim_jobs.sessions.folding import contains, fold
from lerim_jobs.sessions.speech import own_words
from lerim_jobs.sessions.transcript import Turn, said_in

__all__ = ["placed"]


def placed(turns: Sequence[Turn], quotes: Iterable[str]) -> list[Turn | None]:
    """The turn of each quote, in their order; None for one that stands nowhere.

    A user's own words win over what he pasted, and that over anybody else's. Who quotes the same words twice means two turns,
    the first one first, as long as there are so many.
    """
    taken: dict[str, list[Turn]] = {}
    found: list[Turn | None] = []
    for quote in quotes:
        at = [turn for turn in turns if said_in(turn, quote)]
        best = min((_rank(turn, quote) for turn in at), default=0)
        at = [turn for turn in at if _rank(turn, quote) == best]
        before = taken.setdefault(fold(quote).strip(), [])
        turn = next((one for one in at if one not in before), before[-1] if before else None)
        if turn:
            before.append(turn)
        found.append(turn)
    return found


def _rank(turn: Turn, quote: str) -> int:
    if turn.speaker != "user":
        return 2
    return 0 if contains(own_words(turn.text), quote) else 1
