"""Claude Code transcripts: one JSON object a line, one line per content block of an API answer.

Kept: what a person said in any form, what the assistant said and asked, tool calls in short, the start of error results. Dropped
and counted: sidechains (subagents; their result is in the parent's tool result), meta and compaction records, what programs put
into the user's place, tool results that are no errors, progress and snapshots. What was taken back by a rewind is dropped, too.
Keys come from the record's `uuid` and the block's number, so the same record exported into another file is known again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from lerim_jobs.ids import derived, digest
from lerim_jobs.sessions.branches import Prompt, Prompts, Tree
from lerim_jobs.sessions.calls import Calls
from lerim_jobs.sessions.claude_records import (
    Block,
    Message,
    Record,
    attached_prompt,
    by_a_person,
    decoder,
    plain,
    tidy,
    value,
)
from lerim_jobs.sessions.parts import Piece, error_text, tool_text
from lerim_jobs.sessions.queued import Queue
from lerim_jobs.sessions.records import decode_block, parse_ms
from lerim_jobs.sessions.transcript import Form, Speaker
from lerim_jobs.sessions.typed import Said, typed

__all__ = ["ClaudeReader"]

_TALK = ("user", "assistant")
_NUMBERS = "0123456789"


class ClaudeReader:
    """Reads one file's lines in order. `state` carries what later increments need."""

    sources: Sequence[str] | None = None

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
        self.prompts = Prompts(state.get("prompts"))
        self._tree = Tree(self.prompts, linked=state.get("linked"))
        self._queue = Queue(state.get("queue"))
        self._calls = Calls(state.get("calls"))
        self._stem = stem

    def finish(self) -> dict[str, Any]:
        """The state for the next increment, as of the last line given."""
        state = {
            "session_id": self.session_id,
            "cwd": self.cwd,
            "talked": self.talked,
            "sidechain": self.sidechain,
            "prompts": self.prompts.remembered(),
            "queue": self._queue.remembered(),
            "calls": self._calls.remembered(),
        }
        kept = {key: value for key, value in state.items() if value}
        return kept if self._tree.linked is None else {**kept, "linked": self._tree.linked}

    @property
    def parent(self) -> str | None:
        """The session whose subagent wrote this file, when nobody else did."""
        return (self.session_id or self._stem) if self.sidechain and not self.talked else None

    @property
    def last_ms(self) -> int | None:
        """The last time that could be read."""
        last = parse_ms(self._last_stamp)
        return self._last_ms if last is None else last

    def decode(self, block: bytes) -> list[list[Record]]:
        """The records of each line."""
        return decode_block(block, decoder, self.dropped, tidy)

    def take(self, records: list[Record]) -> Sequence[Piece]:
        """The kept pieces of one line."""
        if len(records) == 1:
            return self._read(records[0])
        return [piece for record in records for piece in self._read(record)]

    def _read(self, record: Record) -> Sequence[Piece]:
        self._note(record)
        if record.type not in _TALK:
            return self._other(record)
        if record.isSidechain is True:
            self.sidechain = True
            self.dropped["sidechain"] += 1
            return ()
        self.talked = True
        message = record.message
        if message is None or (reason := _left_out(record, message)):
            self._tree.note(record.uuid, record.parentUuid)
            self.dropped["no message" if message is None else reason] += 1
            return ()
        if record.type == "assistant":
            self._queue.answered()
            under = self._tree.talk(record.uuid, record.parentUuid)
            pieces = self._answer(record, message, under)
        else:
            pieces = self._said(record, message)
        if not pieces:
            self.dropped["nothing to keep"] += 1
        return pieces

    def _note(self, record: Record) -> None:
        if not self.session_id:
            self.session_id = record.sessionId or ""
        if record.worktreeSession is not None and isinstance(place := record.worktreeSession, dict):
            self.cwd = place["originalCwd"] if isinstance(place.get("originalCwd"), str) else self.cwd
        if self.cwd is None:
            self.cwd = record.cwd or None
        if record.gitBranch:
            self.branch = record.gitBranch
        if record.timestamp is not None:
            self._last_stamp = record.timestamp
            if self.first_ms is None:
                self.first_ms = self._at(record.timestamp)

    def _at(self, stamp: Any) -> int | None:
        """Only of records that are kept: reading every time would be a tenth of all work."""
        at_ms = parse_ms(stamp)
        self._last_ms = self._last_ms if at_ms is None else at_ms
        return at_ms

    def _other(self, record: Record) -> Sequence[Piece]:
        """A record that is no part of the talk; what the user typed meanwhile may be in it."""
        kind = record.type
        mine = record.isSidechain is not True
        if mine and record.uuid:
            self._tree.note(record.uuid, record.parentUuid)
        pieces: Sequence[Piece] = ()
        if kind == "queue-operation":
            pieces = self._queued(record)
        elif kind == "attachment" and mine:
            pieces = self._attached(record)
        elif kind == "summary" and isinstance(record.summary, str):
            self.title = self.title or record.summary
        if record.customTitle is not None or record.aiTitle is not None:
            for title in (record.customTitle, record.aiTitle):
                self.title = title if isinstance(title, str) else self.title
        if not pieces:
            self.dropped[kind or "untyped"] += 1
        return pieces

    def _queued(self, record: Record) -> Sequence[Piece]:
        written = plain(record.content)
        text = _own(written)
        match record.operation:
            case "enqueue":
                self._queue.enqueue(text, written, record.timestamp)
            case "dequeue":
                self._queue.dequeue()
            case "popAll":
                self.dropped["put back into the editor"] += self._queue.pop_all(text or written)
            case "remove":
                if said := self._queue.remove(text, written, record.timestamp):
                    return [self._meanwhile(said.text, self._queue.key(said), said.stamp or record.timestamp)]
        return ()

    def _attached(self, record: Record) -> Sequence[Piece]:
        text = _own(attached_prompt(record) or "")
        if not text or not self._queue.attached(text):
            return ()
        uuid = record.uuid or digest(bytes(record.attachment))
        return [self._meanwhile(text, derived(uuid, "0"), record.timestamp)]

    def _meanwhile(self, text: str, key: str, stamp: Any) -> Piece:
        return self._piece("user", text, key, stamp, self.prompts.last, form="meanwhile")

    def _answer(self, record: Record, message: Message, under: Prompt | None) -> list[Piece]:
        """What the assistant says, asks and calls."""
        pieces = []
        for number, block in enumerate(_blocks(message)):
            if block.type == "text":
                text = block.text.strip() if block.text else ""
                if text:
                    pieces.append(self._piece("assistant", text, _key(record, number), record.timestamp, under))
            elif block.type == "tool_use":
                given = bytes(block.input).decode()
                asked = self._calls.begin(block.id, block.name or "", given)
                if asked:
                    key = _key(record, number)
                    pieces.append(self._piece("assistant", asked, key, record.timestamp, under, form="question"))
                    continue
                text, limit = tool_text(block.name or "", given)
                pieces.append(self._piece("tool", text, _key(record, number), record.timestamp, under, limit=limit))
        return pieces

    def _said(self, record: Record, message: Message) -> list[Piece]:
        """What the user says, and what tools give back in his place."""
        blocks = _blocks(message)
        results = [(number, block) for number, block in enumerate(blocks) if block.type == "tool_result"]
        if results and len(results) == len(blocks):
            return self._results(record, results, self._tree.talk(record.uuid, record.parentUuid) or self.prompts.last)
        human = bool(results) or by_a_person(record)
        said: list[tuple[int, Said]] = []
        for number, block in enumerate(blocks):
            words = typed(block.text) if human and block.type == "text" and block.text else ()
            said += [(number, one) for one in words]
            if block.type == "text" and not words:
                self._queue.delivered(block.text or "")
                self.dropped["injected prompt"] += 1
        if results:
            under = self._tree.talk(record.uuid, record.parentUuid) or self.prompts.last
        elif said or _is_command(blocks):
            under = self._tree.prompt(record.uuid, record.parentUuid)
        else:
            under = self._tree.note(record.uuid, record.parentUuid) or self.prompts.last
        pieces = self._results(record, results, under)
        last, times = -1, 1
        for number, one in said:
            last, times = number, times + 1 if number == last else 1
            if not self._queue.recorded(one.text):
                self.dropped["said before from the queue"] += 1
                continue
            form: Form = one.form or ("beside" if results else "")
            key = _key(record, number, "" if times == 1 else f":{times}")
            pieces.append(self._piece("user", one.text, key, record.timestamp, under, form=form))
        return pieces

    def _results(self, record: Record, results: Iterable[tuple[int, Block]], under: Prompt | None) -> list[Piece]:
        pieces: list[Piece] = []
        for number, block in results:
            if block.is_error is True or self._calls.asks(block.tool_use_id):
                pieces += self._result(record, block, number, under)
            else:
                self._calls.end(block.tool_use_id)
        return pieces

    def _result(self, record: Record, block: Block, number: int, under: Prompt | None) -> Iterator[Piece]:
        """What the user answers with a tool's result, and the start of an error."""
        refused = block.is_error is True
        printed = plain(block.content)
        denied = record.toolDenialKind in (None, "user-rejected")
        result = self._calls.answered(
            block.tool_use_id, printed, value(record.toolUseResult), refused=refused, denied=denied
        )
        if refused:
            text, limit = error_text(result.printed)
            yield self._piece("tool", text, _key(record, number), record.timestamp, under, limit=limit)
        if result.shown:
            yield self._piece(
                "assistant", result.shown, _key(record, number, ":plan"), record.timestamp, under, form="question"
            )
        for n, (form, reply) in enumerate(result.replies):
            key = _key(record, number, f":{form}:{n}")
            piece = self._piece("user", reply.text, key, record.timestamp, under, form=form)
            yield msgspec.structs.replace(piece, answers=reply.answers, answers_chars=result.answers_chars)

    def _piece(
        self,
        speaker: Speaker,
        text: str,
        key: str,
        stamp: Any,
        under: Prompt | None,
        *,
        form: Form = "",
        limit: int | None = None,
    ) -> Piece:
        if under is not None and not under.key:
            under.key = key
        return Piece(speaker, text, key, self._at(stamp), speaker == "user", limit, form, under=under)


def _left_out(record: Record, message: Message) -> str:
    """Why a record of talk is not kept; empty for one that may be."""
    if record.isMeta is True:
        return "meta"
    if record.isCompactSummary is True:
        return "compaction summary"
    return "api error" if record.isApiErrorMessage is True or message.model == "<synthetic>" else ""


def _blocks(message: Message) -> Sequence[Block]:
    content = message.content or ()
    return (Block("text", content),) if isinstance(content, str) else content


def _own(text: str) -> str:
    """A queued text as the user typed it; empty for what no person typed."""
    return "\n".join(one.text for one in typed(text))


def _is_command(blocks: Sequence[Block]) -> bool:
    """Whether it is a slash command, which may say nothing and is a point to go back to all the same."""
    return any(
        block.text is not None and block.text.lstrip().startswith(("<command-name>", "<command-message>"))
        for block in blocks
    )


def _key(record: Record, number: int, behind: str = "") -> str:
    whole = record.uuid or digest(msgspec.json.encode([record.message, record.timestamp]))
    return derived(whole, f"{number}{behind}" if behind else _NUMBERS[number] if number < 10 else str(number))
