"""Claude Code transcripts: one JSON object a line, one line per content block of an API answer.

Kept: what a person typed, what the assistant said, tool calls in short, the start of error results. Dropped and counted:
sidechains (subagents; their result is in the parent's tool result), meta and compaction records, injected prompts, tool
results that are no errors, progress and snapshots. Keys come from the record's `uuid` and the block's number, so the same
record exported into another file is known again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from lerim_jobs.ids import derived, digest
from lerim_jobs.sessions.parts import Piece, error_text, is_injected, tool_text
from lerim_jobs.sessions.records import decode_line, parse_ms

__all__ = ["ClaudeReader"]

_NONE = msgspec.Raw(b"null")


class _Record(msgspec.Struct, frozen=True, gc=False):
    """The fields that matter; everything else is passed over without being built."""

    type: Any = None
    uuid: Any = None
    sessionId: Any = None
    timestamp: Any = None
    cwd: Any = None
    gitBranch: Any = None
    isSidechain: Any = None
    isMeta: Any = None
    isCompactSummary: Any = None
    isApiErrorMessage: Any = None
    customTitle: Any = None
    aiTitle: Any = None
    summary: Any = None
    message: msgspec.Raw = _NONE
    worktreeSession: Any = None


class _Message(msgspec.Struct, frozen=True, gc=False):
    model: Any = None
    content: msgspec.Raw = _NONE


class _Block(msgspec.Struct, frozen=True, gc=False):
    type: Any = None
    text: Any = None
    name: Any = None
    is_error: Any = None
    input: msgspec.Raw = _NONE
    content: msgspec.Raw = _NONE


_record = msgspec.json.Decoder(_Record)
_message = msgspec.json.Decoder(_Message)
_blocks = msgspec.json.Decoder(list[_Block])


class ClaudeReader:
    """Reads one file's lines in order. `state` carries what later increments need."""

    def __init__(self, state: dict[str, Any], *, stem: str) -> None:
        self.session_id: str = state.get("session_id") or ""
        self.cwd: str | None = state.get("cwd")
        self.branch: str | None = None
        self.title: str | None = None
        self.first_ms: int | None = None
        self.last_ms: int | None = None
        self.dropped: Counter[str] = Counter()
        self.talked = bool(state.get("talked"))
        self.sidechain = bool(state.get("sidechain"))
        self._stem = stem

    def finish(self) -> dict[str, Any]:
        """The state for the next increment, as of the last line given."""
        state = {"session_id": self.session_id, "cwd": self.cwd, "talked": self.talked, "sidechain": self.sidechain}
        return {key: value for key, value in state.items() if value}

    @property
    def parent(self) -> str | None:
        """The session whose subagent wrote this file, when nobody else did."""
        return (self.session_id or self._stem) if self.sidechain and not self.talked else None

    def read(self, line: bytes) -> Iterator[Piece]:
        """The kept pieces of one line."""
        for record in decode_line(line, _record, self.dropped):
            at_ms = self._note(record)
            if record.type not in ("user", "assistant"):
                self._other(record)
            elif record.isSidechain is True:
                self.sidechain = True
                self.dropped["sidechain"] += 1
            else:
                yield from self._talk(record, at_ms)

    def _note(self, record: _Record) -> int | None:
        if not self.session_id and isinstance(record.sessionId, str):
            self.session_id = record.sessionId
        if isinstance(record.worktreeSession, dict) and isinstance(record.worktreeSession.get("originalCwd"), str):
            self.cwd = record.worktreeSession["originalCwd"]
        if self.cwd is None and isinstance(record.cwd, str) and record.cwd:
            self.cwd = record.cwd
        if isinstance(record.gitBranch, str) and record.gitBranch:
            self.branch = record.gitBranch
        at_ms = parse_ms(record.timestamp)
        if at_ms is not None:
            self.first_ms = at_ms if self.first_ms is None else self.first_ms
            self.last_ms = at_ms
        return at_ms

    def _other(self, record: _Record) -> None:
        for title in (record.customTitle, record.aiTitle):
            if isinstance(title, str):
                self.title = title
        if record.type == "summary" and isinstance(record.summary, str):
            self.title = self.title or record.summary
        self.dropped[record.type if isinstance(record.type, str) else "untyped"] += 1

    def _talk(self, record: _Record, at_ms: int | None) -> Iterator[Piece]:
        self.talked = True
        reason = next((why for why, hit in _DROP if getattr(record, hit) is True), None)
        message = self._message_of(record)
        if reason or message is None:
            self.dropped[reason or "no message"] += 1
            return
        pieces = list(self._pieces(record, message, at_ms))
        if not pieces:
            self.dropped["nothing to keep"] += 1
        yield from pieces

    def _message_of(self, record: _Record) -> _Message | None:
        raw = bytes(record.message)
        if raw.startswith(b'"'):
            return _Message(content=record.message)
        try:
            message = _message.decode(raw)
        except msgspec.DecodeError:
            return None
        if message.model == "<synthetic>":
            self.dropped["api error"] += 1
            return None
        return message

    def _pieces(self, record: _Record, message: _Message, at_ms: int | None) -> Iterator[Piece]:
        uuid = record.uuid if isinstance(record.uuid, str) else digest(bytes(record.message))
        blocks = _content(message.content)
        answers = any(block.type == "tool_result" for block in blocks)
        for number, block in enumerate(blocks):
            key = derived(uuid, str(number))
            text = block.text.strip() if isinstance(block.text, str) else ""
            if block.type == "text" and text:
                if record.type == "assistant":
                    yield Piece("assistant", text, key, at_ms)
                elif is_injected(text) or answers:
                    self.dropped["injected prompt"] += 1
                else:
                    yield Piece("user", text, key, at_ms, human=True)
            elif block.type == "tool_use":
                yield Piece("tool", tool_text(str(block.name), bytes(block.input).decode()), key, at_ms)
            elif block.type == "tool_result" and block.is_error is True:
                yield Piece("tool", error_text(_plain(block.content)), key, at_ms)


_DROP = (
    ("meta", "isMeta"),
    ("compaction summary", "isCompactSummary"),
    ("api error", "isApiErrorMessage"),
)


def _content(raw: msgspec.Raw) -> list[_Block]:
    data = bytes(raw)
    if data.startswith(b'"'):
        return [_Block(type="text", text=msgspec.json.decode(data))]
    try:
        return _blocks.decode(data)
    except msgspec.DecodeError:
        return [block for part in _parts(data) for block in _one(part)]


def _parts(data: bytes) -> list[Any]:
    value = msgspec.json.decode(data)
    return value if isinstance(value, list) else []


def _one(part: Any) -> list[_Block]:
    if isinstance(part, str):
        return [_Block(type="text", text=part)]
    try:
        return [msgspec.json.decode(msgspec.json.encode(part), type=_Block)]
    except msgspec.DecodeError:
        return []


def _plain(raw: msgspec.Raw) -> str:
    """A tool result's text: a string, or the texts of its blocks."""
    value = msgspec.json.decode(raw)
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str))
    return ""
