"""The common transcript: what every reader turns a session into, how it is stored and how it is shown to a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from lerim_jobs.sessions.folding import contains, spelling
from lerim_jobs.sessions.short_calls import PRINTED, short_call

__all__ = [
    "PRINTED",
    "REDACTED",
    "Form",
    "Segment",
    "Speaker",
    "Turn",
    "as_said",
    "contains",
    "decode",
    "encode",
    "find_quote",
    "render",
    "said_in",
]

Speaker = Literal["user", "assistant", "tool"]
Form = Literal["", "meanwhile", "answer", "rejection", "command", "plan", "beside", "question"]
"""How a turn was said. Empty: a prompt of the user, or what anybody else says plainly.

    meanwhile   the user typed it while the agent worked
    answer      the user answers a question that the agent asked with a tool
    rejection   the user's words with which he refused a tool call
    command     the arguments of a slash command
    plan        a plan of the agent's that the user approved
    beside      typed beside a tool's result
    question    what the agent asked with a tool, with the choices it gave
"""
REDACTED = "[REDACTED]"
"""Stands where something was taken out of what is stored."""
_NOTES: dict[str, str] = {
    "meanwhile": "typed while the agent worked",
    "answer": "answer to the agent's question",
    "rejection": "said on refusing what the agent wanted to do",
    "command": "arguments of a slash command",
    "plan": "approval of the agent's plan",
    "beside": "typed beside a tool's result",
    "question": "asked of the user",
}
_ANSWERS_CHARS = 500
"""So much of what is answered is shown with the answer: it stands whole in a turn of the agent's own."""
_LABEL: dict[str, str] = {"user": "User", "assistant": "Assistant", "tool": "Tool"}
_LIKE_A_LABEL = re.compile(r"(?:user|assistant|tool)\b", re.IGNORECASE)


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One kept piece of a session, redacted. `n` counts kept turns of the whole session from 0.

    `tool` turns are a short form of a call (its name and the start of its input) or the start of an error result.
    `key` tells whether the same piece was read before, also from another file; 16 hex digits. `answers` is the agent's question
    or proposal, whole, where the file says that this turn answers it.
    """

    n: int
    speaker: Speaker
    text: str
    key: str
    at_ms: int | None = None
    form: Form = ""
    answers: str = ""


class Segment(msgspec.Struct, frozen=True):
    """What one reading of a session added; stored as one blob."""

    agent: str
    session_id: str
    turns: list[Turn]


def encode(segment: Segment) -> bytes:
    """The stored form: JSON."""
    return msgspec.json.encode(segment)


def decode(data: bytes) -> Segment:
    """Raises msgspec.DecodeError for bytes that `encode` did not write."""
    return msgspec.json.decode(data, type=Segment)


def render(turns: Iterable[Turn]) -> str:
    """The transcript as plain text, one labelled paragraph a turn.

    Only a turn begins at the left margin with a label: lines inside one that look like a label, and all lines of a tool,
    are indented. Quotes are compared without white space, so a copied line still stands in its turn. The form of a turn and
    the start of what it answers are told in an indented line below it.
    """
    return "\n\n".join(f"{_LABEL[turn.speaker]}: {_inside(turn)}" for turn in turns)


def find_quote(turns: Sequence[Turn], quote: str) -> Turn | None:
    """The first turn in which the words of the quote stand (see `folding.py`). None: there is none.

    A user's words win over anybody else's, because only those can carry a rule.
    """
    return next((turn for turn in sorted(turns, key=lambda turn: turn.speaker != "user") if said_in(turn, quote)), None)


def said_in(turn: Turn, quote: str) -> bool:
    """Whether the words stand in the turn, as it is stored or as a model was shown it."""
    return contains(turn.text, quote) or (turn.speaker == "tool" and contains(short_call(turn.text), quote))


def as_said(turn: Turn, quote: str) -> str:
    """The words of the quote as the turn spells them."""
    short = short_call(turn.text) if turn.speaker == "tool" else turn.text
    return spelling(turn.text, quote) or spelling(short, quote) or quote.strip()


def _inside(turn: Turn) -> str:
    first, *rest = turn.text.splitlines() or [""]
    rest = [f"  {line}" if turn.speaker == "tool" or _LIKE_A_LABEL.match(line) else line for line in rest]
    return "\n".join([first, *rest, *([f"  ({note})"] if (note := _note(turn)) else ())])


def _note(turn: Turn) -> str:
    note = _NOTES.get(turn.form, "")
    answers = " ".join(turn.answers.split()) if note else ""
    if len(answers) > _ANSWERS_CHARS:
        answers = f"{answers[:_ANSWERS_CHARS]} …"
    return f"{note}: {answers}" if answers else note
