"""Generated Claude Code sessions with the byte shares of real ones: mostly tool results, a little talk in every form."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

__all__ = ["FORMS", "generate"]

_WORDS = "cart checkout order stock price page cache index query retry test deploy build queue worker token".split()


def generate(folder: Path, *, count: int, size_bytes: int = 86_000, cwd: str = "/srv/shop", seed: int = 1) -> int:
    """Write `count` session files of about `size_bytes` each below the folder; returns the bytes written."""
    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    total = 0
    for number in range(count):
        session_id = f"{number:08d}-0000-4000-8000-000000000000"
        with (folder / f"{session_id}.jsonl").open("wb") as file:
            for line in _lines(rng, session_id, size_bytes, cwd):
                total += file.write(line)
    return total


def _lines(rng: random.Random, session_id: str, size_bytes: int, cwd: str) -> Iterator[bytes]:
    size, n = 0, 0
    last: str | None = None
    while size < size_bytes:
        for record in [*_exchange(rng, session_id, n, cwd), *(() if n % 3 else _form(rng, session_id, n, cwd))]:
            if "uuid" in record:
                record["parentUuid"], last = last, str(record["uuid"])
            line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
            size += len(line)
            yield line
        n += 1


def _words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choices(_WORDS, k=count))


def _record(session_id: str, n: int, part: int, cwd: str, kind: str, **fields: object) -> dict[str, object]:
    minute, second = divmod(n * 20 + part, 60)
    return {
        "type": kind,
        "uuid": f"{session_id[:8]}-{n}-{part}",
        "parentUuid": None,
        "sessionId": session_id,
        "timestamp": f"2026-11-01T10:{minute % 60:02d}:{second:02d}.000Z",
        "cwd": cwd,
        "gitBranch": "main",
        "version": "2.1.0",
        "isSidechain": False,
        "userType": "external",
        **fields,
    }


def _exchange(rng: random.Random, session_id: str, n: int, cwd: str) -> list[dict[str, object]]:
    def record(kind: str, part: int, **fields: object) -> dict[str, object]:
        return _record(session_id, n, part, cwd, kind, **fields)

    usage = {"input_tokens": 4, "output_tokens": 50, "cache_read_input_tokens": 20_000}
    call = {"type": "tool_use", "id": f"t{n}", "name": "Bash", "input": {"command": _words(rng, 20)}}
    said = {"type": "text", "text": _words(rng, 20)}
    result = _words(rng, 350)
    given = [{"type": "tool_result", "tool_use_id": f"t{n}", "content": result}]
    copy = {"stdout": result + _words(rng, 150), "stderr": "", "interrupted": False}
    answer = {"id": f"m{n}", "role": "assistant", "usage": usage}
    return [
        record("user", 0, message={"role": "user", "content": f"Please change the {_words(rng, 12)}."}),
        record("assistant", 1, message={**answer, "content": [said]}),
        record("assistant", 2, message={**answer, "content": [call]}),
        record("user", 3, message={"role": "user", "content": given}, toolUseResult=copy),
        record("progress", 4, data={"type": "bash_progress", "output": _words(rng, 250)}),
        {"type": "file-history-snapshot", "messageId": f"m{n}", "snapshot": {"files": _words(rng, 60)}},
    ]


def _form(rng: random.Random, session_id: str, n: int, cwd: str) -> list[dict[str, object]]:
    """One of the other forms in which people speak, or of those that programs put in their place."""

    def asked(name: str, **given: object) -> dict[str, object]:
        block = {"type": "tool_use", "id": f"f{n}", "name": name, "input": given}
        return _record(session_id, n, 7, cwd, "assistant", message={"role": "assistant", "content": [block]})

    def user(content: object, **fields: object) -> dict[str, object]:
        return _record(session_id, n, 8, cwd, "user", message={"role": "user", "content": content}, **fields)

    def result(text: str, *beside: str, error: bool = False, **fields: object) -> dict[str, object]:
        block = {"type": "tool_result", "tool_use_id": f"f{n}", "content": text, "is_error": error}
        return user([block, *({"type": "text", "text": one} for one in beside)], **fields)

    words, form = _words(rng, 8), FORMS[(int(session_id[:8]) + n // 3) % len(FORMS)]
    if form == "answer":
        copy = {"answers": {"Which one?": words}}
        asking = asked("AskUserQuestion", questions=[{"question": "Which one?", "options": []}])
        return [asking, result(f'User has answered your questions: "Which one?"="{words}".', toolUseResult=copy)]
    if form == "rejection":
        said = "The user doesn't want to proceed with this tool use. To tell you how to proceed, the user said:\n"
        return [asked("Write", content=_words(rng, 40)), result(f"{said}{words}", error=True)]
    if form == "plan":
        plan = _words(rng, 60)
        approved = f"User has approved your plan.\n\n## Approved Plan:\n{plan}"
        return [asked("ExitPlanMode", plan=plan), result(approved, toolUseResult={"plan": plan})]
    if form == "beside":
        return [asked("Read", file_path=f"{cwd}/cart.py"), result(_words(rng, 80), words, _REMINDER)]
    if form == "command":
        return [user(f"<command-name>/cart</command-name>\n<command-args>{words}</command-args>")]
    if form == "meanwhile":
        stamp = f"2026-11-01T11:{n % 60:02d}:00.000Z"
        queued = {"type": "queue-operation", "sessionId": session_id, "timestamp": stamp, "content": words}
        about = {"type": "queued_command", "prompt": words, "commandMode": "prompt"}
        attached = _record(session_id, n, 7, cwd, "attachment", attachment=about)
        return [{**queued, "operation": "enqueue"}, {**queued, "operation": "remove"}, attached]
    notice = f"<task-notification>\n{_words(rng, 20)}\n</task-notification>"
    return [user(f"{_REMINDER}\n{words}"), user(notice), user(_words(rng, 80), isMeta=True)]


_REMINDER = "<system-reminder>\nThe cart has changed.\n</system-reminder>"
FORMS = ("answer", "rejection", "plan", "beside", "command", "meanwhile", "")
"""Any two sessions in a row have all of them."""
