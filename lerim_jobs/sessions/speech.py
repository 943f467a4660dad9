"""Whose words stand in a turn: what the user typed himself, and what was only pasted or printed.

A transcript is untrusted text. Code blocks, quoted lines, log lines and passages that pretend to be somebody's turn are
not the user's own words, even where the user pasted them. `pasted.py` tells which lines they are.
"""

from __future__ import annotations

from collections.abc import Sequence

from lerim_jobs.sessions.pasted import lines
from lerim_jobs.sessions.transcript import PRINTED, Turn, contains

__all__ = ["others_words", "own_words", "said_by_nobody", "said_by_user"]

_FEW_CHARS = 16
_GAP = "\x00"
"""Stands for each passage left out, so that no quote reaches across it."""


def own_words(text: str) -> str:
    """What the user typed himself in a turn: without code blocks, quoted and log lines.

    A line that begins like somebody's turn, such as `User: `, begins a pasted conversation: it and all below are left out.
    """
    return "\n".join(line if own else _GAP for own, line in lines(text))


def others_words(text: str) -> str:
    """The rest of a user's turn: what was pasted into it."""
    return "\n".join(line for own, line in lines(text) if not own)


def said_by_nobody(turn: Turn) -> str:
    """What in a turn neither the user nor the agent said: printed by a tool, or pasted."""
    if turn.speaker == "tool":
        return turn.text if turn.text.startswith(PRINTED) else ""
    return others_words(turn.text) if turn.speaker == "user" else ""


def said_by_user(turns: Sequence[Turn], quote: str, *, at: int | None = None) -> Turn | None:
    """The first turn in which the user said these words himself, or turn number `at` where he did so there. Not after a tool had
    printed them, unless they are few, such as `yes, do that`: those give away nothing of a tool's. None: there is none.
    """
    mine: list[Turn] = []
    for turn in turns:
        if turn.speaker == "tool" and len(quote) > _FEW_CHARS and contains(said_by_nobody(turn), quote):
            break
        if turn.speaker == "user" and contains(own_words(turn.text), quote):
            mine.append(turn)
            if at is None:
                break
    return next((turn for turn in mine if turn.n == at), mine[0] if mine else None)
