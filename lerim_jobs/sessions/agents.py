"""The table of coding agents whose sessions can be read: one row and one reader file each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from lerim_jobs.sessions.branches import Prompts
from lerim_jobs.sessions.claude_code import ClaudeReader
from lerim_jobs.sessions.codex import CodexReader
from lerim_jobs.sessions.parts import Piece

__all__ = ["AGENTS", "AgentSpec", "LineReader"]


class LineReader(Protocol):
    """Turns one file's lines, in order, into kept pieces and remembers what is known of the session."""

    session_id: str
    cwd: str | None
    branch: str | None
    title: str | None
    first_ms: int | None
    dropped: Counter[str]
    prompts: Prompts

    @property
    def sources(self) -> Sequence[str] | None:
        """The sessions that the file says it was copied from; None where keys of pieces tell copies by themselves."""
        ...

    @property
    def last_ms(self) -> int | None:
        """The last time that the file gives."""
        ...

    @property
    def parent(self) -> str | None:
        """The session whose subagent wrote the file; None for a session of its own."""
        ...

    def decode(self, block: bytes) -> list[list[Any]]:
        """The records of each of these lines. Changes nothing but what is counted as dropped."""
        ...

    def take(self, records: list[Any]) -> Iterable[Piece]:
        """The kept pieces of one line's records, which are in order behind those before."""
        ...

    def finish(self) -> dict[str, Any]:
        """The state for the next increment, as of the last line given. Changes nothing."""
        ...


class AgentSpec(msgspec.Struct, frozen=True):
    """Where an agent keeps its sessions: `home_variable` names a folder, or several with commas between; `defaults` are below
    the home folder, of which those are read that exist.

    `folders` below it are read when one of them exists, else the folder itself.
    """

    reader: Callable[..., LineReader]
    home_variable: str
    defaults: tuple[str, ...]
    folders: tuple[str, ...]


AGENTS: dict[str, AgentSpec] = {
    "claude_code": AgentSpec(ClaudeReader, "CLAUDE_CONFIG_DIR", (".claude", ".config/claude"), ("projects",)),
    "codex": AgentSpec(CodexReader, "CODEX_HOME", (".codex",), ("sessions", "archived_sessions")),
}
