"""The common transcript: what every reader turns a session into, how it is stored and how it is shown to a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

__all__ = ["Segment", "Speaker", "Turn", "decode", "encode", "find_quote", "render"]

Speaker = Literal["user", "assistant", "tool"]
_LABEL: dict[str, str] = {"user": "User", "assistant": "Assistant", "tool": "Tool"}


class Turn(msgspec.Struct, frozen=True, omit_defaults=True):
    """One kept piece of a session, redacted. `n` counts kept turns of the whole session from 0.

    `tool` turns are a short form of a call (its name and the start of its input) or the start of an error result.
    `key` tells whether the same piece was read before, also from another file; 16 hex digits.
    """

    n: int
    speaker: Speaker
    text: str
    key: str
    at_ms: int | None = None


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
    """The transcript as plain text, one labelled paragraph a turn."""
    return "\n\n".join(f"{_LABEL[turn.speaker]}: {turn.text}" for turn in turns)


def find_quote(turns: Sequence[Turn], quote: str) -> Turn | None:
    """The first turn whose text contains the quote word for word; white space may differ. None: not there.

    A user's words win over anybody else's, because only those can carry a rule.
    """
    wanted = _squeeze(quote)
    if not wanted:
        return None
    for turn in sorted(turns, key=lambda turn: turn.speaker != "user"):
        if wanted in _squeeze(turn.text):
            return turn
    return None


def _squeeze(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
