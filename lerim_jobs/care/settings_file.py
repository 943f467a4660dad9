"""Changing one thing in the settings file and leaving everything else, comments included, as it is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from lerim_jobs.errors import ConfigError
from lerim_jobs.machine import whole_file

__all__ = ["set_agent"]


def set_agent(path: Path, agent: str, folders: Sequence[str], *, enabled: bool) -> None:
    """Write `agents.<agent>`, without folders for its usual ones; the file is replaced whole. Raises ConfigError for a file that
    cannot be changed safely.
    """
    text = path.read_text("utf-8") if path.exists() else ""
    written = _quoted(folders[0]) if len(folders) == 1 else f"[{', '.join(map(_quoted, folders))}]" if folders else '""'
    line = f"{agent} = {{ path = {written}, enabled = {'true' if enabled else 'false'} }}"
    changed = _with_line(text, agent, line)
    wanted = {"path": folders[0] if len(folders) == 1 else list(folders) or "", "enabled": enabled}
    try:
        before, after = tomllib.loads(text), tomllib.loads(changed)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path}: cannot be changed safely: {exc}. Write into [agents]: {line}") from exc
    agents = {**before.get("agents", {}), agent: wanted}
    if after != {**before, "agents": agents}:
        raise ConfigError(f"{path}: [agents] is written in a form that only you can change. Write into it: {line}")
    whole_file.put(path, changed.encode())


def _with_line(text: str, agent: str, line: str) -> str:
    """The line in the table's place, in the old one's where there is one, else in a new table at the end."""
    lines = text.splitlines()
    head = next((n for n, one in enumerate(lines) if re.fullmatch(r"\s*\[\s*agents\s*\]\s*(#.*)?", one)), None)
    if head is None:
        return f"{text.rstrip()}\n\n[agents]\n{line}\n".lstrip("\n")
    end = next((n for n, one in enumerate(lines[head + 1 :], head + 1) if re.match(r"\s*\[", one)), len(lines))
    key = re.compile(rf"\s*[\"']?{re.escape(agent)}[\"']?\s*=")
    old = next((n for n in range(head + 1, end) if key.match(lines[n])), None)
    if old is None:
        lines.insert(head + 1, line)
    else:
        lines[old] = line
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    """A TOML basic string."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda hit: f"\\u{ord(hit[0]):04x}", escaped) + '"'
