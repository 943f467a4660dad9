"""Claude Code transcripts: one JSON object a line, one line per content block of an API answer.

Kept: what a person typed, what the assistant said, tool calls in short, the start of error results. Dropped and counted:
sidechains (subagents; their result is in the parent's tool result), meta and compaction records, injected prompts, tool
results that are no errors, progress and snapshots. Keys come from the record's `uuid` and the block's number, so the same
record exported into another file is known again.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from lerim_jobs.ids import derived, digest
from lerim_jobs.sessions.parts import Piece, error_text, is_injected, tool_text
from lerim_jobs.sessions.records import decode_line, parse_ms
from lerim_jobs.sessions.transcript import Speaker

__all__ = ["ClaudeReader"]

_NONE = msgspec.Raw(b"null")


class _Block(msgspec.Struct, frozen=True, gc=False):
    type: Any = None
    text: Any = None
    name: Any = None
    is_error: Any = None
    input: msgspec.Raw = _NONE
    content: msgspec.Raw = _NONE


class _Message(msgspec.Struct, frozen=True, gc=False):
    model: Any = None
    content: str | list[_Block] | None = None


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
    message: _Message | None = None
    worktreeSession: Any = None


_record = msgspec.json.Decoder(_Record)
_TALK = ("user", "assistant")


class ClaudeReader:
    """Reads one file's lines in order. `state` carries what later increments need."""

    def __init__(self, state: dict[str, Any], *, stem: str) -> None:
        self.session_id: str = state.get("session_id") or ""
        self.cwd: str | None = state.get("cwd")
        self.branch: str | None = None
        self.title: str | None = None
        self.first_ms: int | None = None
        self._last_ms: int | None = None
        self._last_stamp: Any = None
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

    @property
    def last_ms(self) -> int | None:
        """The last time that could be read."""
        last = parse_ms(self._last_stamp)
        return self._last_ms if last is None else last

    def read(self, line: bytes) -> list[Piece]:
        """The kept pieces of one line."""
        records = decode_line(line, _record, self.dropped, _tidy)
        if len(records) == 1:
            return self._read(records[0])
        return [piece for record in records for piece in self._read(record)]

    def _read(self, record: _Record) -> list[Piece]:
        self._note(record)
        if record.type not in _TALK:
            self._other(record)
            return []
        if record.isSidechain is True:
            self.sidechain = True
            self.dropped["sidechain"] += 1
            return []
        self.talked = True
        message = record.message
        if message is None or (reason := _left_out(record, message)):
            self.dropped["no message" if message is None else reason] += 1
            return []
        pieces = self._pieces(record, message)
        if not pieces:
            self.dropped["nothing to keep"] += 1
        return pieces

    def _note(self, record: _Record) -> None:
        if not self.session_id and isinstance(record.sessionId, str):
            self.session_id = record.sessionId
        place = record.worktreeSession
        if place is not None and isinstance(place, dict) and isinstance(place.get("originalCwd"), str):
            self.cwd = place["originalCwd"]
        if self.cwd is None and isinstance(record.cwd, str) and record.cwd:
            self.cwd = record.cwd
        if record.gitBranch and isinstance(record.gitBranch, str):
            self.branch = record.gitBranch
        if record.timestamp is not None:
            self._last_stamp = record.timestamp
            if self.first_ms is None:
                self.first_ms = self._at(record)

    def _at(self, record: _Record) -> int | None:
        """Only of records that are kept: reading every time would be a tenth of all work."""
        at_ms = parse_ms(record.timestamp)
        self._last_ms = self._last_ms if at_ms is None else at_ms
        return at_ms

    def _other(self, record: _Record) -> None:
        for title in (record.customTitle, record.aiTitle):
            if isinstance(title, str):
                self.title = title
        if record.type == "summary" and isinstance(record.summary, str):
            self.title = self.title or record.summary
        self.dropped[record.type if isinstance(record.type, str) else "untyped"] += 1

    def _pieces(self, record: _Record, message: _Message) -> list[Piece]:
        blocks = message.content or []
        if isinstance(blocks, str):
            blocks = [_Block("text", blocks)]
        pieces = []
        for number, block in enumerate(blocks):
            if found := self._piece(record, block, blocks):
                speaker, text, limit_chars = found
                uuid = record.uuid if isinstance(record.uuid, str) else digest(msgspec.json.encode(message))
                key = derived(uuid, str(number))
                pieces.append(Piece(speaker, text, key, self._at(record), speaker == "user", limit_chars))
        return pieces

    def _piece(self, record: _Record, block: _Block, blocks: list[_Block]) -> tuple[Speaker, str, int | None] | None:
        """Who says what in the block and how much of it is kept; None for what is not kept."""
        if block.type == "text":
            text = block.text.strip() if isinstance(block.text, str) else ""
            if not text or record.type == "assistant":
                return ("assistant", text, None) if text else None
            if is_injected(text) or any(one.type == "tool_result" for one in blocks):
                self.dropped["injected prompt"] += 1
                return None
            return "user", text, None
        if block.type == "tool_use":
            return "tool", *tool_text(str(block.name), bytes(block.input).decode())
        if block.type == "tool_result" and block.is_error is True:
            return "tool", *error_text(_plain(block.content))
        return None


def _left_out(record: _Record, message: _Message) -> str:
    """Why a record of talk is not kept; empty for one that may be."""
    if record.isMeta is True:
        return "meta"
    if record.isCompactSummary is True:
        return "compaction summary"
    return "api error" if record.isApiErrorMessage is True or message.model == "<synthetic>" else ""


def _tidy(record: dict[str, Any]) -> dict[str, Any]:
    """A record whose message has another shape: a bare string, blocks that are strings, or something unknown."""
    message = record.get("message")
    if isinstance(message, str):
        message = {"content": message}
    if not isinstance(message, dict):
        return {**record, "message": None}
    content = message.get("content")
    if isinstance(content, list):
        content = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
        content = [part for part in content if isinstance(part, dict)]
    elif not isinstance(content, str):
        content = None
    return {**record, "message": {**message, "content": content}}


def _plain(raw: msgspec.Raw) -> str:
    """A tool result's text: a string, or the texts of its blocks."""
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(part["text"] for part in value if isinstance(part, dict) and isinstance(part.get("text"), str))
    return ""
