"""Hand-written sessions for tests: a sentence marked `REMEMBER:` is what the scripted model server extracts."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from pathlib import Path

__all__ = ["claude_lines", "write_claude", "write_codex"]


def claude_lines(session_id: str, cwd: str, says: Sequence[str], *, start: int = 0, day: int = 1) -> list[str]:
    """One user prompt and one assistant answer per text, as Claude Code writes them."""
    lines = []
    for n, text in enumerate(says, start):
        for part, (kind, message) in enumerate(_exchange(n, text)):
            record = {
                "type": kind,
                "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{session_id}/{n}/{part}")),
                "parentUuid": None,
                "sessionId": session_id,
                "timestamp": f"2026-11-{day:02d}T10:{n % 60:02d}:{part:02d}.000Z",
                "cwd": cwd,
                "gitBranch": "main",
                "version": "2.1.0",
                "isSidechain": False,
                "message": message,
            }
            lines.append(json.dumps(record))
    return lines


def write_claude(claude: Path, session_id: str, cwd: str, says: Sequence[str], *, day: int = 1) -> Path:
    """Write a session file below a Claude folder and return its path."""
    folder = claude / "projects" / cwd.replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{session_id}.jsonl"
    path.write_text("\n".join(claude_lines(session_id, cwd, says, day=day)) + "\n", "utf-8")
    return path


def write_codex(codex: Path, session_id: str, cwd: str, says: Sequence[str], *, day: int = 1) -> Path:
    """Write a rollout file below a Codex folder and return its path."""
    folder = codex / "sessions" / "2026" / "11" / f"{day:02d}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"rollout-2026-11-{day:02d}T10-00-00-{session_id}.jsonl"
    records: list[dict[str, object]] = [
        {"type": "session_meta", "payload": {"id": session_id, "cwd": cwd, "cli_version": "0.140.0", "source": "cli"}}
    ]
    for text in says:
        records.append({"type": "event_msg", "payload": {"type": "user_message", "message": text}})
        answer = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Done."}]}
        records.append({"type": "response_item", "payload": answer})
    lines = [
        json.dumps({"timestamp": f"2026-11-{day:02d}T10:{n % 60:02d}:00.000Z", **record})
        for n, record in enumerate(records)
    ]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def _exchange(n: int, text: str) -> list[tuple[str, dict[str, object]]]:
    answer = [{"type": "text", "text": f"Understood, point {n} is done."}]
    return [
        ("user", {"role": "user", "content": text}),
        ("assistant", {"id": f"msg_{n}", "role": "assistant", "content": answer}),
    ]
