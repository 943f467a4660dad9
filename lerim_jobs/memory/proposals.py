"""What agents may ask for. Nothing here changes anything: `checks.py` decides, the stage's commit appends."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Action", "Candidate", "CandidateKind", "Proposal"]

Action = Literal["add", "update", "supersede", "merge", "consolidate", "archive", "decay", "skip"]

CandidateKind = Literal["decision", "preference", "insight", "procedure", "pitfall", "friction"]
"""Kinds of what is found in a transcript: all but the session's summary."""


class Candidate(msgspec.Struct, frozen=True, omit_defaults=True):
    """A memory found in a transcript window. `confidence` is 0 to 1.

    `quote` stands word for word in the window; `turn` is the kept-turn number it was found in, said at `said_ms` by `speaker`.
    """

    kind: CandidateKind
    title: str
    body: str
    confidence: float
    quote: str
    tags: list[str] = []
    turn: int = -1
    said_ms: int | None = None
    speaker: str = ""


class Proposal(msgspec.Struct, frozen=True, omit_defaults=True):
    """One wished change.

    add          candidate (its number); kind, title, body, confidence, tags where they are to be other than the candidate's
    update       memory_id, version (as read), title, body, confidence, tags, candidate
    supersede    memory_id (no longer true), version, candidate (what is true instead); the rest as for add
    merge        memory_id (the survivor), version, absorbs (ids), title, body, confidence, tags
    consolidate  the same for three or more that are related but not the same
    archive      memory_id, version
    decay        the same, by the formula, never by an agent
    skip         candidate; nothing happens, the reason is kept

    The first three may join others with the candidate: `also` has their numbers.
    """

    action: Action
    reason: str = ""
    candidate: int | None = None
    also: list[int] = []
    kind: CandidateKind | None = None
    title: str = ""
    body: str = ""
    confidence: float = 0.0
    tags: list[str] = []
    memory_id: str | None = None
    version: int | None = None
    absorbs: list[str] = []
