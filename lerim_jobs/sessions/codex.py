"""Codex CLI rollouts: `{timestamp, type, payload}` a line; before autumn 2025 bare items without an envelope.

The first `session_meta` counts (resumes repeat it). A prompt is written twice, as `response_item` and as `event_msg`; the
event is the truth, the item stands in while no event was seen, and an event whose item was kept before is the same prompt.
Keys come from the kept text and how often it was said, because lines have no ids: a fork that copies history is known again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from lerim_jobs.ids import derived
from lerim_jobs.sessions.parts import ROLLBACK, Piece, error_text, is_injected, tool_text
from lerim_jobs.sessions.records import decode_line, parse_ms
from lerim_jobs.sessions.secrets import plain, redact
from lerim_jobs.sessions.transcript import Speaker

__all__ = ["CodexReader"]

_CWD = re.compile(r"<cwd>\s*(.{1,1000}?)\s*</cwd>|[Cc]urrent working directory:\s*(\S.{0,1000})")
_EXIT_CODE = re.compile(r'(?:[Ee]xit(?:ed with)? code:?|"exit_code":)\s*(-?\d{1,5})')
_IDE = "# Context from my IDE setup:"
_REQUEST = "## My request for Codex:"
_CALLS = {"function_call", "custom_tool_call", "web_search_call", "local_shell_call", "tool_search_call"}
_OUTPUTS = {"function_call_output", "custom_tool_call_output"}
_ITEMS = {"message", "reasoning", *_CALLS, *_OUTPUTS}

_line = msgspec.json.Decoder(dict[str, Any])


class CodexReader:
    """Reads one file's lines in order. `state` carries what later increments need."""

    def __init__(self, state: dict[str, Any], *, stem: str) -> None:
        self.session_id: str = state.get("session_id") or ""
        self.cwd: str | None = state.get("cwd")
        self.branch: str | None = state.get("branch")
        self.title: str | None = None
        self.first_ms: int | None = None
        self.last_ms: int | None = None
        self.dropped: Counter[str] = Counter()
        self.parent: str | None = state.get("parent")
        self.cancelled_turns = 0
        self._events = bool(state.get("events"))
        self._stood_in: Counter[str] = Counter(state.get("stood_in", {}))
        self._said: Counter[str] = Counter(state.get("said", {}))

    def finish(self) -> dict[str, Any]:
        """The state for the next increment, as of the last line given."""
        state = {
            "session_id": self.session_id,
            "cwd": self.cwd,
            "branch": self.branch,
            "parent": self.parent,
            "events": self._events,
            "stood_in": {key: count for key, count in self._stood_in.items() if count > 0},
            "said": dict(self._said),
        }
        return {key: value for key, value in state.items() if value}

    def read(self, line: bytes) -> Iterator[Piece]:
        """The kept pieces of one line."""
        for record in decode_line(line, _line, self.dropped):
            at_ms = parse_ms(record.get("timestamp"))
            if at_ms is not None:
                self.first_ms = at_ms if self.first_ms is None else self.first_ms
                self.last_ms = at_ms
            kind, payload = record.get("type"), record.get("payload")
            if isinstance(payload, dict):
                yield from self._enveloped(str(kind), payload, at_ms)
            elif kind in _ITEMS:
                yield from self._item(record, at_ms)
            elif isinstance(record.get("id"), str) and kind is None:
                self._meta(record)
            else:
                self.dropped[str(kind or record.get("record_type") or "untyped")] += 1

    def _enveloped(self, kind: str, payload: dict[str, Any], at_ms: int | None) -> Iterator[Piece]:
        if kind == "session_meta":
            self._meta(payload)
        elif kind == "turn_context":
            if self.cwd is None and isinstance(payload.get("cwd"), str):
                self.cwd = payload["cwd"]
        elif kind == "response_item":
            yield from self._item(payload, at_ms)
        elif kind == "event_msg" and payload.get("type") == "user_message":
            yield from self._prompt_event(payload, at_ms)
        elif kind == "event_msg" and payload.get("type") == "thread_rolled_back":
            turns = payload.get("num_turns")
            yield Piece("user", "", ROLLBACK, turns if isinstance(turns, int) else 1)
        else:
            self.dropped[str(payload.get("type") or kind) if kind == "event_msg" else kind] += 1

    def _meta(self, payload: dict[str, Any]) -> None:
        if self.session_id:
            self.dropped["repeated session_meta"] += 1
            return
        self.session_id = str(payload.get("id") or "")
        if isinstance(payload.get("cwd"), str):
            self.cwd = payload["cwd"]
        git = payload.get("git")
        if isinstance(git, dict) and isinstance(git.get("branch"), str):
            self.branch = redact(plain(git["branch"][:1000]))[0]
        source = payload.get("source")
        spawned = source.get("subagent") if isinstance(source, dict) else None
        if spawned:
            thread = spawned.get("thread_spawn") if isinstance(spawned, dict) else None
            parent = thread.get("parent_thread_id") if isinstance(thread, dict) else None
            self.parent = str(parent or "unknown session")

    def _prompt_event(self, payload: dict[str, Any], at_ms: int | None) -> Iterator[Piece]:
        self._events = True
        text = _prompt(payload.get("message"))
        if not text or is_injected(text):
            self.dropped["injected prompt"] += 1
        elif self._stood_in[text_key := derived(text)] > 0:
            self._stood_in[text_key] -= 1
        else:
            yield self._piece("user", text, at_ms, human=True)

    def _item(self, item: dict[str, Any], at_ms: int | None) -> Iterator[Piece]:
        kind = item.get("type")
        if kind == "message":
            yield from self._message(item, at_ms)
        elif kind in _CALLS:
            given = item.get("arguments", item.get("input", item.get("action", "")))
            shown = given if isinstance(given, str) else msgspec.json.encode(given).decode()
            yield self._tool(*tool_text(str(item.get("name") or kind), shown), at_ms)
        elif kind in _OUTPUTS and (output := _failed(item.get("output"))):
            yield self._tool(*error_text(output), at_ms)
        else:
            self.dropped[str(kind)] += 1

    def _message(self, item: dict[str, Any], at_ms: int | None) -> Iterator[Piece]:
        text = _texts(item.get("content"))
        role = item.get("role")
        if role == "user" and self.cwd is None and (place := _CWD.search(text)):
            self.cwd = (place[1] or place[2]).strip()
        if role == "assistant" and text:
            yield self._piece("assistant", text, at_ms)
        elif role == "user" and text and not self._events and not is_injected(text):
            prompt = _prompt(text)
            if prompt:
                self._stood_in[derived(prompt)] += 1
                yield self._piece("user", prompt, at_ms, human=True)
        else:
            self.dropped["repeated or injected message"] += 1

    def _tool(self, text: str, limit_chars: int, at_ms: int | None) -> Piece:
        return msgspec.structs.replace(self._piece("tool", text, at_ms), limit_chars=limit_chars)

    def _piece(self, speaker: Speaker, text: str, at_ms: int | None, *, human: bool = False) -> Piece:
        said = derived(speaker, text, length=12)
        self._said[said] += 1
        return Piece(speaker, text, derived(said, str(self._said[said])), at_ms, human)


def _prompt(value: Any) -> str:
    """What the person typed, without the editor's context in front of it."""
    text = value.strip() if isinstance(value, str) else ""
    if text.startswith(_IDE) and _REQUEST in text:
        text = text.partition(_REQUEST)[2].strip()
    return text


def _texts(content: Any) -> str:
    if isinstance(content, str):
        return content.strip()
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return "\n".join(text for text in texts if isinstance(text, str)).strip()


def _failed(output: Any) -> str:
    """The output of a call that ended with another code than 0, else an empty text."""
    text = output if isinstance(output, str) else msgspec.json.encode(output).decode()
    code = _EXIT_CODE.search(text[:2000])
    return text if code and code[1] != "0" else ""
