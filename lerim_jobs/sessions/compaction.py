"""How a transcript is shortened for a model: what tools were called with, without the frame around it, and waiting only once.

Only what is shown is shortened; what is stored stays whole, and proves quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from lerim_jobs.sessions.short_calls import PRINTED, short_call
from lerim_jobs.sessions.transcript import Turn

__all__ = ["compact", "shortened"]

_SHORT_CHARS, _ALIKE = 240, 0.6
"""Turns of the agent up to so long, of which so many words are the same, are one waiting line said again."""
_WORD = re.compile(r"[^\W\d_]+")


def compact(turns: Iterable[Turn], cwd: str = "") -> list[Turn]:
    """The turns as a model is shown them: calls of tools in short, those in a row as one turn with a line each, and what the
    agent says again and again while it waits only once. Turns of users stay as they are. A joined turn has the number of its
    first.
    """
    shown: list[Turn] = []
    lines: list[str] = []
    for turn in _without_waiting(turns):
        if not _is_call(turn):
            lines = []
            shown.append(turn)
            continue
        line = shortened(turn, cwd).text
        if not lines:
            shown.append(msgspec.structs.replace(turn, text=line))
        elif line != lines[-1]:
            shown[-1] = msgspec.structs.replace(shown[-1], text=f"{shown[-1].text}\n{line}")
        lines.append(line)
    return shown


def shortened(turn: Turn, cwd: str = "") -> Turn:
    """A call without the keys of its input and without the folder that all its paths begin with; any other turn as it is."""
    if not _is_call(turn):
        return turn
    text = short_call(turn.text, cwd)
    return turn if text == turn.text else msgspec.structs.replace(turn, text=text)


def _is_call(turn: Turn) -> bool:
    return turn.speaker == "tool" and not turn.text.startswith(PRINTED)


def _without_waiting(turns: Iterable[Turn]) -> list[Turn]:
    """Of short turns of the agent that say nearly the same, with no word of the user between, the last. Questions all stay."""
    kept: list[Turn | None] = []
    said: list[tuple[int, set[str]]] = []
    for turn in turns:
        if turn.speaker == "user":
            said = []
        elif turn.speaker == "assistant" and len(turn.text) <= _SHORT_CHARS and not turn.form and "?" not in turn.text:
            words = set(_WORD.findall(turn.text.casefold()))
            for n, earlier in said:
                if _alike(words, earlier):
                    kept[n] = None
            said = [one for one in said if kept[one[0]] is not None]
            said.append((len(kept), words))
        kept.append(turn)
    return [turn for turn in kept if turn is not None]


def _alike(one: set[str], other: set[str]) -> bool:
    return bool(one) and len(one & other) >= _ALIKE * len(one | other)
