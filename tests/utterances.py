"""Counts what people said in session files, apart from the readers: another walk over the JSON, other rules for the same formats.

Nothing of `lerim_jobs` is used here, so that a fault of the readers is not repeated. The whole file is in memory and order hardly
matters: what each text is, is decided by looking at all of it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Utterance", "blocks_of", "fold", "is_programs", "objects", "without_programs", "words_of"]


class Utterance(NamedTuple):
    """A text in a person's place. `listed`: why it is not to be kept; empty for what a person said and let stand."""

    form: str
    text: str
    listed: str = ""


_NAMES = (
    "command-name command-message command-contents local-command-stdout local-command-stderr local-command-caveat bash-input"
    " bash-stdout bash-stderr system-reminder task-notification ide_selection ide_opened_file teammate-message agent-message"
    " environment_context skill turn_aborted INSTRUCTIONS user-prompt-submit-hook recommended_plugins plugins"
    " permissions user_shell_command post-tool-use-hook session-start-hook ide_diagnostics new-diagnostics image"
).split()
_BEGINNINGS = (
    "caveat: the messages below",
    "this session is being continued from a previous conversation",
    "base directory for this skill",
    "system: please continue.",
    "# agents.md instructions",
)
_SAME = str.maketrans("‘’‚′“”„″–—‑−", "''''\"\"\"\"----")


def objects(data: bytes) -> Iterator[dict[str, Any]]:
    """Every JSON object of the file, line by line, also several in a line."""
    decoder = json.JSONDecoder()
    for line in data.decode("utf-8", "replace").split("\n"):
        rest = line.strip(" \t\r\n\x00\ufeff")
        while rest:
            try:
                value, end = decoder.raw_decode(rest)
            except (ValueError, RecursionError):
                break
            rest = rest[end:].lstrip(" \t\r\n\x00\ufeff")
            if isinstance(value, dict):
                yield value


def blocks_of(content: Any) -> list[dict[str, Any]]:
    """The blocks of a message; a bare text is one."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    parts = content if isinstance(content, list) else []
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in parts]
    return [part for part in parts if isinstance(part, dict)]


def words_of(content: Any) -> str:
    """The texts of a content, one below the other."""
    return "\n".join(one["text"] for one in blocks_of(content) if isinstance(one.get("text"), str)).strip()


def is_programs(text: str) -> bool:
    """Whether a program wrote the whole text, by its first words, or because it is a task's notice as an object."""
    text = text.strip()
    if text.startswith('{"') and text.endswith("}") and '"task_id"' in text:
        return True
    return text.casefold().startswith(_BEGINNINGS) and not text.startswith("# AGENTS.md instructions are")


def without_programs(text: str) -> str:
    """What is left of a text when everything goes that a program put into it."""
    if is_programs(text) and "</INSTRUCTIONS>" not in text:
        return ""
    text = text.rpartition("</INSTRUCTIONS>")[2] if is_programs(text) else text
    for name in _NAMES:
        while (at := text.find(f"<{name}")) >= 0:
            end = text.rfind(f"</{name}>")
            opened = text[at + len(name) + 1 : at + len(name) + 2]
            if end < at and opened == ">" and not text[:at].rpartition("\n")[2].strip():
                text = text[:at]  # cut off, or masked
            if end < at or opened not in (">", " ", "\n"):
                break
            inner = text.find(f"</{name}>", at)
            again = text.find(f"<{name}", at + 1)
            end = inner if 0 <= inner < again else end
            text = text[:at] + text[end + len(name) + 3 :]
    lines = [line for line in text.split("\n") if not re.match(r"\s*\[Request interrupted by user.*\]\s*$", line)]
    lines = [line for line in lines if not line.startswith("Read the output file to retrieve the result:")]
    return "\n".join(lines).strip()


def fold(text: str) -> str:
    """A text for comparison: what typography, case, white space and Unicode form do not change."""
    text = text.encode("utf-8", "replace").decode()
    return "".join(unicodedata.normalize("NFKC", text).translate(_SAME).casefold().split())
