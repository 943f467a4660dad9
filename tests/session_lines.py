"""Lines of session files as agents write them, each record linked to the one before; and what the readers keep of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lerim_jobs.sessions.discovery import Found
from lerim_jobs.sessions.reader import Reading, read
from lerim_jobs.sessions.session import FileMark
from lerim_jobs.sessions.transcript import Turn

NOW_MS = 10_000_000_000_000
SESSION = "22222222-0000-4000-8000-000000000002"


class Claude:
    """Lines of a Claude Code file. `at` is the id of the last record; set it to go on from an earlier one."""

    agent = "claude_code"

    def __init__(self, session_id: str = SESSION, cwd: str = "/srv/shop") -> None:
        self.lines: list[str] = []
        self.at: str | None = None
        self._session_id, self._cwd = session_id, cwd

    def add(self, kind: str, **fields: Any) -> str:
        """A record that follows the last one; returns its id."""
        n = len(self.lines)
        record = {
            "type": kind,
            "uuid": f"{n:08}-0000-4000-8000-{abs(hash(self._session_id)) % 10**12:012}",
            "parentUuid": self.at,
            "isSidechain": False,
            "sessionId": self._session_id,
            "cwd": self._cwd,
            "timestamp": f"2026-11-01T10:{n // 60:02}:{n % 60:02}.000Z",
            **fields,
        }
        self.lines.append(json.dumps(record, ensure_ascii=False))
        self.at = str(record["uuid"])
        return self.at

    def bare(self, kind: str, **fields: Any) -> None:
        """A record without an id."""
        stamp = f"2026-11-01T11:00:{len(self.lines) % 60:02}.000Z"
        self.lines.append(json.dumps({"type": kind, "sessionId": self._session_id, "timestamp": stamp, **fields}))

    def user(self, content: Any, **fields: Any) -> str:
        """What stands in the user's place."""
        return self.add("user", message={"role": "user", "content": content}, **fields)

    def says(self, text: str) -> str:
        """An answer of the agent."""
        return self.add("assistant", message={"role": "assistant", "content": [{"type": "text", "text": text}]})

    def calls(self, name: str, call: str = "toolu_1", **given: Any) -> str:
        """A call of a tool."""
        block = {"type": "tool_use", "id": call, "name": name, "input": given}
        return self.add("assistant", message={"role": "assistant", "content": [block]})

    def result(self, content: Any, call: str = "toolu_1", *beside: str, error: bool = False, **fields: Any) -> str:
        """A tool's result, and texts beside it in the same record."""
        block = {"type": "tool_result", "tool_use_id": call, "content": content, "is_error": error}
        return self.user([block, *({"type": "text", "text": text} for text in beside)], **fields)

    def queued(self, operation: str, text: str | None = None) -> None:
        """What happened in the queue of prompts."""
        self.bare("queue-operation", operation=operation, **({} if text is None else {"content": text}))

    def attached(self, text: str, **fields: Any) -> None:
        """A queued prompt that the running turn took up."""
        self.add("attachment", attachment={"type": "queued_command", "prompt": text, "commandMode": "prompt", **fields})


class Codex:
    """Lines of a Codex rollout."""

    agent = "codex"

    def __init__(self, cwd: str = "/srv/shop") -> None:
        self.lines: list[str] = []
        self.add("session_meta", id="c1", cwd=cwd)

    def add(self, kind: str, **payload: Any) -> None:
        """A record."""
        stamp = f"2026-11-01T10:{len(self.lines) // 60:02}:{len(self.lines) % 60:02}.000Z"
        self.lines.append(json.dumps({"timestamp": stamp, "type": kind, "payload": payload}, ensure_ascii=False))

    def item(self, *texts: str, role: str = "user", **fields: Any) -> None:
        """A message of several parts."""
        kind = "input_text" if role == "user" else "output_text"
        content = [{"type": kind, "text": text} for text in texts]
        self.add("response_item", type="message", role=role, content=content, **fields)

    def event(self, text: str, **fields: Any) -> None:
        """A prompt as an event."""
        self.add("event_msg", type="user_message", message=text, **fields)

    def completed(self, text: str) -> None:
        """A prompt as new files have it."""
        content = [{"type": "text", "text": text, "text_elements": []}]
        self.add("event_msg", type="item_completed", item={"type": "UserMessage", "id": "i", "content": content})

    def prompt(self, text: str) -> None:
        """A prompt in both of its records."""
        self.item(text)
        self.event(text)

    def says(self, text: str) -> None:
        """An answer of the agent."""
        self.item(text, role="assistant")

    def calls(self, name: str, call: str, given: Any) -> None:
        """A call of a tool."""
        self.add("response_item", type="function_call", name=name, call_id=call, arguments=json.dumps(given))

    def output(self, call: str, output: Any) -> None:
        """A tool's output."""
        given = output if isinstance(output, str) else json.dumps(output)
        self.add("response_item", type="function_call_output", call_id=call, output=given)


File = Claude | Codex


def put(file: File, root: Path) -> None:
    """Write the file where its agent keeps it, below a folder that holds those of all agents."""
    if isinstance(file, Claude):
        path = root / "claude" / "projects" / "-srv-shop" / f"{SESSION}.jsonl"
    else:
        path = root / "codex" / "sessions" / "2026" / "11" / "01" / "rollout-2026-11-01T10-00-00-c1.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in file.lines), "utf-8")


def reading_of(folder: Path, file: File, mark: FileMark | None = None) -> Reading:
    """What the reader gives for the file as it is, or behind a mark."""
    path = folder / "session.jsonl"
    path.write_text("".join(f"{line}\n" for line in file.lines), "utf-8")
    about = path.stat()
    found = Found(file.agent, str(path), about.st_size, about.st_mtime_ns, about.st_ino)
    reading = read(found, mark, host="h", now_ms=NOW_MS, known=lambda session_id, began, keys: set())
    assert reading is not None
    return reading


def turns_of(folder: Path, file: File) -> list[Turn]:
    """The turns of the whole file."""
    return reading_of(folder, file).turns


def words_of(folder: Path, file: File) -> list[str]:
    """What the user says in it."""
    return [turn.text for turn in turns_of(folder, file) if turn.speaker == "user"]
