"""Codex CLI rollouts: `{timestamp, type, payload}` a line; before autumn 2025 bare items without an envelope.

The first `session_meta` counts (resumes repeat it). What the user types is written two or three times, as `response_item`, as
`user_message` and in new files as `item_completed`, and is kept once. One message may have several parts, most of which programs
wrote: each is judged alone. Keys come from the kept text and how often it was said, because lines have no ids: a fork that
copies history is known again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

from lerim_jobs.ids import derived
from lerim_jobs.sessions.branches import Prompts
from lerim_jobs.sessions.calls import Calls
from lerim_jobs.sessions.codex_prompts import Message, Twins, prompt
from lerim_jobs.sessions.copies import SOURCES
from lerim_jobs.sessions.parts import Piece, error_text, tool_text
from lerim_jobs.sessions.records import decode_block, parse_ms
from lerim_jobs.sessions.secrets import plain, redact
from lerim_jobs.sessions.transcript import Form, Speaker

__all__ = ["CodexReader"]

_CWD = re.compile(r"<cwd>\s*(.{1,1000}?)\s*</cwd>|[Cc]urrent working directory:\s*(\S.{0,1000})")
_EXIT_CODE = re.compile(r'(?:[Ee]xit(?:ed with)? code:?|"exit_code":)\s*(-?\d{1,5})')
_CALLS = {"function_call", "custom_tool_call", "web_search_call", "local_shell_call", "tool_search_call"}
_OUTPUTS = {"function_call_output", "custom_tool_call_output"}
_ITEMS = {"message", "reasoning", *_CALLS, *_OUTPUTS}
_IMPLEMENT = "Implement the plan."
"""What the program sends when the user approves a plan with a key."""

_PLAN_CHARS = 20_000
_MAX_SOURCES, _ID_CHARS = 20, 200

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
        self.prompts = Prompts(state.get("prompts"))
        self._twins = Twins(state.get("twins"), stood_in=state.get("stood_in"), events=state.get("events"))
        self._calls = Calls(state.get("calls"))
        self._plan: str = state.get("plan") or ""
        self._said: Counter[str] = Counter(state.get("said", {}))
        self.sources: list[str] = list(state.get(SOURCES) or ())

    def finish(self) -> dict[str, Any]:
        """The state for the next increment, as of the last line given."""
        state = {
            "session_id": self.session_id,
            "cwd": self.cwd,
            "branch": self.branch,
            "parent": self.parent,
            "prompts": self.prompts.remembered(),
            "twins": self._twins.remembered(),
            "calls": self._calls.remembered(),
            "plan": redact(plain(self._plan))[0][:_PLAN_CHARS],
            "said": dict(self._said),
            SOURCES: self.sources,
        }
        return {key: value for key, value in state.items() if value}

    def decode(self, block: bytes) -> list[list[dict[str, Any]]]:
        """The records of each line."""
        return decode_block(block, _line, self.dropped)

    def take(self, records: list[dict[str, Any]]) -> Iterator[Piece]:
        """The kept pieces of one line."""
        for record in records:
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
        elif kind == "event_msg":
            yield from self._event(payload, at_ms)
        else:
            self.dropped[kind] += 1

    def _event(self, payload: dict[str, Any], at_ms: int | None) -> Iterator[Piece]:
        match payload.get("type"):
            case "user_message":
                message = prompt(payload, "message") if payload.get("kind") in (None, "plain") else Message("")
                yield from self._told(message, "event", at_ms)
            case "item_completed" if isinstance(item := payload.get("item"), dict):
                if item.get("type") == "UserMessage":
                    yield from self._told(prompt(item, "content"), "completed", at_ms)
                elif item.get("type") == "Plan" and isinstance(item.get("text"), str):
                    yield from self._proposal(item["text"].strip(), at_ms)
            case "thread_rolled_back":
                yield from self._late(self._twins.pending())
                turns = payload.get("num_turns")
                self.prompts.roll_back(turns if isinstance(turns, int) else 1)
            case other:
                if other in ("task_complete", "turn_aborted", "turn_complete"):
                    yield from self._late(self._twins.answered())
                self.dropped[str(other or "event_msg")] += 1

    def _meta(self, payload: dict[str, Any]) -> None:
        if self.session_id:
            self.dropped["repeated session_meta"] += 1
            self._copied_from(payload.get("id"))
            return
        self.session_id = str(payload.get("id") or "")
        self._copied_from(payload.get("forked_from_id"))
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

    def _copied_from(self, source: Any) -> None:
        """A fork names the session it was copied from, and holds the first record of that as well."""
        known = (self.session_id, *self.sources)
        new = isinstance(source, str) and 0 < len(source) <= _ID_CHARS and source not in known
        if new and len(known) <= _MAX_SOURCES and not redact(source)[1]:
            self.sources.append(source)

    def _item(self, item: dict[str, Any], at_ms: int | None) -> Iterator[Piece]:
        kind = item.get("type")
        if kind == "message" and item.get("role") == "user":
            yield from self._message(item, at_ms)
            return
        if kind == "message" and item.get("role") == "assistant" and (text := _texts(item.get("content"))):
            yield from self._late(self._twins.answered())
            if plan := _proposed(text):
                text = text.replace(plan, "", 1) if plan == self._plan else text
                self._plan = plan
            yield self._piece("assistant", text, at_ms)
        elif kind in _CALLS:
            yield from self._late(self._twins.answered())
            yield self._call(item, str(kind), at_ms)
        elif kind in _OUTPUTS:
            yield from self._output(item, at_ms)
        else:
            self.dropped["repeated or injected message" if kind == "message" else str(kind)] += 1

    def _message(self, item: dict[str, Any], at_ms: int | None) -> Iterator[Piece]:
        if self.cwd is None and (place := _CWD.search(_texts(item.get("content")))):
            self.cwd = (place[1] or place[2]).strip()
        message = prompt(item, "content")
        if message.text:
            yield from self._told(message, "item", at_ms)
        else:
            self.dropped["repeated or injected message"] += 1

    def _told(self, message: Message, written: str, at_ms: int | None) -> Iterator[Piece]:
        """What the user typed, unless it was kept as another record of the same."""
        known = self._twins.known(message, written, at_ms)
        yield from self._late(known.late)
        if message.text and known.new:
            yield self._prompt(message.text, at_ms)
        elif message.picture and not message.text and written == "event":
            self.prompts.add()
        elif not known.held:
            self.dropped["repeated message" if message.text else "injected prompt"] += 1

    def _proposal(self, plan: str, at_ms: int | None) -> Iterator[Piece]:
        """A plan, which may stand in the agent's message, too."""
        if plan and plan != self._plan:
            self._plan = plan
            yield self._piece("assistant", plan, at_ms, form="question")

    def _late(self, held: list[tuple[str, int | None]]) -> Iterator[Piece]:
        """Messages whose twin did not come."""
        for text, at_ms in held:
            yield self._prompt(text, at_ms)

    def _prompt(self, text: str, at_ms: int | None) -> Piece:
        self.prompts.add()
        if self._plan and text == _IMPLEMENT:
            plan, self._plan = self._plan, ""
            return self._piece("user", text, at_ms, form="plan", answers=plan)
        return self._piece("user", text, at_ms)

    def _call(self, item: dict[str, Any], kind: str, at_ms: int | None) -> Piece:
        given = item.get("arguments", item.get("input", item.get("action", "")))
        shown = given if isinstance(given, str) else msgspec.json.encode(given).decode()
        name = str(item.get("name") or kind)
        if asked := self._calls.begin(item.get("call_id"), name, shown):
            return self._piece("assistant", asked, at_ms, form="question")
        text, limit = tool_text(name, shown)
        return msgspec.structs.replace(self._piece("tool", text, at_ms), limit_chars=limit)

    def _output(self, item: dict[str, Any], at_ms: int | None) -> Iterator[Piece]:
        """What the user answers with a tool's output, and the start of an error."""
        output, call = item.get("output"), item.get("call_id")
        replies = self._calls.answered_by_id(call, _texts(output) or _texts(_inner(output)))
        for reply in replies:
            yield self._piece("user", reply.text, at_ms, form="answer", answers=reply.answers)
        if replies:
            return
        if failed := _failed(output):
            text, limit = error_text(failed)
            yield msgspec.structs.replace(self._piece("tool", text, at_ms), limit_chars=limit)
        else:
            self.dropped[str(item.get("type"))] += 1

    def _piece(self, speaker: Speaker, text: str, at_ms: int | None, *, form: Form = "", answers: str = "") -> Piece:
        said = derived(speaker, text, length=12)
        self._said[said] += 1
        key, under = derived(said, str(self._said[said])), self.prompts.last
        if under is not None and not under.key:
            under.key = key
        return Piece(speaker, text, key, at_ms, speaker == "user", form=form, answers=answers, under=under)


def _proposed(text: str) -> str:
    """A plan that the agent proposes within its message."""
    _, opened, rest = text.partition("<proposed_plan>")
    return rest.partition("</proposed_plan>")[0].strip() if opened else ""


def _inner(output: Any) -> Any:
    return output.get("content") if isinstance(output, dict) else None


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
