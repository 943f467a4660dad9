"""Generated Claude Code sessions with the byte shares of real ones: mostly tool results, a little talk."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

__all__ = ["generate"]

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
    while size < size_bytes:
        for record in _exchange(rng, session_id, n, cwd):
            line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
            size += len(line)
            yield line
        n += 1


def _exchange(rng: random.Random, session_id: str, n: int, cwd: str) -> list[dict[str, object]]:
    def words(count: int) -> str:
        return " ".join(rng.choices(_WORDS, k=count))

    def record(kind: str, part: int, **fields: object) -> dict[str, object]:
        minute, second = divmod(n * 7 + part, 60)
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

    usage = {"input_tokens": 4, "output_tokens": 50, "cache_read_input_tokens": 20_000}
    call = {"type": "tool_use", "id": f"t{n}", "name": "Bash", "input": {"command": words(20)}}
    result = words(350)
    return [
        record("user", 0, message={"role": "user", "content": f"Please change the {words(12)}."}),
        record(
            "assistant",
            1,
            message={
                "id": f"m{n}",
                "role": "assistant",
                "content": [{"type": "text", "text": words(20)}],
                "usage": usage,
            },
        ),
        record("assistant", 2, message={"id": f"m{n}", "role": "assistant", "content": [call], "usage": usage}),
        record(
            "user",
            3,
            message={"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"t{n}", "content": result}]},
            toolUseResult={"stdout": result + words(150), "stderr": "", "interrupted": False},
        ),
        record("progress", 4, data={"type": "bash_progress", "output": words(250)}),
        {"type": "file-history-snapshot", "messageId": f"m{n}", "snapshot": {"files": words(60)}},
    ]
