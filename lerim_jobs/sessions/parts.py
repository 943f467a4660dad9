"""What every reader keeps and drops alike: pieces, short forms of tool calls, the start of errors."""

from __future__ import annotations

import msgspec

from lerim_jobs.sessions.branches import Prompt
from lerim_jobs.sessions.transcript import PRINTED, Form, Speaker

__all__ = ["BEYOND_CHARS", "Piece", "error_text", "tool_text"]

BEYOND_CHARS = 600
"""So much more is redacted before a text is cut: half a secret is not recognised."""
_INPUT_CHARS = 160
_ERROR_CHARS = 300


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A kept piece before redaction and numbering. `human`: a person said it.

    `limit_chars`, `answers_chars`: the texts are cut there, after redaction. `under`: the prompt whose branch it stands in;
    when that is taken back, so is the piece.
    """

    speaker: Speaker
    text: str
    key: str
    at_ms: int | None = None
    human: bool = False
    limit_chars: int | None = None
    form: Form = ""
    answers: str = ""
    answers_chars: int | None = None
    under: Prompt | None = None


def tool_text(name: str, given: str) -> tuple[str, int]:
    """`Bash: {"command": …`, and how much of it will be kept: the start of its input."""
    name = name[:_INPUT_CHARS]
    return f"{name}: {given[: _INPUT_CHARS + BEYOND_CHARS]}".strip(), len(name) + 2 + _INPUT_CHARS


def error_text(output: str) -> tuple[str, int]:
    """An error result, and how much of it will be kept: its start."""
    start = output[: 4 * BEYOND_CHARS].strip()[: _ERROR_CHARS + BEYOND_CHARS]
    return f"{PRINTED}{start}", len(PRINTED) + _ERROR_CHARS
