"""What every reader keeps and drops alike: short forms of tool calls, the start of errors, texts nobody typed."""

from __future__ import annotations

import msgspec

from lerim_jobs.sessions.transcript import PRINTED, Speaker

__all__ = ["ROLLBACK", "Piece", "error_text", "is_injected", "tool_text"]

ROLLBACK = "rollback"
"""Key of a piece that is none: it cancels as many prompts as its `at_ms` says, and what followed them."""

_INPUT_CHARS = 160
_ERROR_CHARS = 300
_BEYOND_CHARS = 600
"""So much more is redacted before a text is cut: half a secret is not recognised."""
_INJECTED = (
    "<command-name>",
    "<command-message>",
    "<command-args>",
    "<local-command-stdout>",
    "<local-command-stderr>",
    "<local-command-caveat>",
    "Caveat:",
    "<bash-input>",
    "<bash-stdout>",
    "<bash-stderr>",
    "<system-reminder>",
    "<task-notification>",
    "<ide_selection>",
    "<ide_opened_file>",
    "[Request interrupted",
    "This session is being continued from a previous conversation",
    "Base directory for this skill",
    "<environment_context>",
    "<user_instructions>",
    "<INSTRUCTIONS>",
    "# AGENTS.md",
    "<turn_aborted>",
    "<skill>",
    "System: Please continue.",
)


class Piece(msgspec.Struct, frozen=True, gc=False):
    """A kept piece before redaction and numbering. `human`: a prompt that a person typed.

    `limit_chars`: the text is cut there, after redaction.
    """

    speaker: Speaker
    text: str
    key: str
    at_ms: int | None = None
    human: bool = False
    limit_chars: int | None = None


def is_injected(text: str) -> bool:
    """Whether a user text was put there by the tool, not by a person."""
    return text.lstrip().startswith(_INJECTED)


def tool_text(name: str, given: str) -> tuple[str, int]:
    """`Bash: {"command": …`, and how much of it will be kept: the start of its input."""
    name = name[:_INPUT_CHARS]
    return f"{name}: {given[: _INPUT_CHARS + _BEYOND_CHARS]}".strip(), len(name) + 2 + _INPUT_CHARS


def error_text(output: str) -> tuple[str, int]:
    """An error result, and how much of it will be kept: its start."""
    start = output[: 4 * _BEYOND_CHARS].strip()[: _ERROR_CHARS + _BEYOND_CHARS]
    return f"{PRINTED}{start}", len(PRINTED) + _ERROR_CHARS
