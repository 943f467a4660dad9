"""What every reader keeps and drops alike: short forms of tool calls, the start of errors, texts nobody typed."""

from __future__ import annotations

import msgspec

from lerim_jobs.sessions.transcript import PRINTED, Speaker

__all__ = ["Piece", "error_text", "is_injected", "tool_text"]

_INPUT_CHARS = 160
_ERROR_CHARS = 300
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


class Piece(msgspec.Struct, frozen=True):
    """A kept piece before redaction and numbering. `human`: a prompt that a person typed."""

    speaker: Speaker
    text: str
    key: str
    at_ms: int | None = None
    human: bool = False


def is_injected(text: str) -> bool:
    """Whether a user text was put there by the tool, not by a person."""
    return text.lstrip().startswith(_INJECTED)


def tool_text(name: str, given: str) -> str:
    """`Bash: {"command": …` with the start of its input."""
    return f"{name}: {given[:_INPUT_CHARS]}".strip()


def error_text(output: str) -> str:
    """The start of an error result."""
    return f"{PRINTED}{output.strip()[:_ERROR_CHARS]}"
