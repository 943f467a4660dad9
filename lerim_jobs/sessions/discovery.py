"""Finding session files: quickly, without following links out of the agents' folders, and without ever failing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from lerim_jobs.config import Agent
from lerim_jobs.errors import ConfigError
from lerim_jobs.sessions.agents import AGENTS

__all__ = ["Found", "Unread", "roots", "scan"]

_ENDING = ".jsonl"
_MAX_DEPTH = 12


class Found(msgspec.Struct, frozen=True, gc=False):
    """A session file as the file system describes it now."""

    agent: str
    path: str
    size_bytes: int
    mtime_ns: int
    inode: int


class Unread(msgspec.Struct, frozen=True):
    """A path that looks like sessions and cannot be read, with the reason."""

    path: str
    reason: str


def roots(env: Mapping[str, str], configured: Mapping[str, str | Agent]) -> dict[str, list[Path]]:
    """The folders to read, by agent. Without configuration every known agent's usual folder that exists.

    Raises ConfigError for an agent nobody knows how to read.
    """
    for name in configured:
        if name not in AGENTS:
            raise ConfigError(f"agents.{name}: unknown agent; there are {', '.join(AGENTS)}")
    found = {}
    for name in configured or AGENTS:
        given = configured.get(name)
        if isinstance(given, Agent) and not given.enabled:
            continue
        path = given.path if isinstance(given, Agent) else given
        folders = _folders(name, env, path or "")
        if folders:
            found[name] = folders
    return found


def scan(places: Mapping[str, list[Path]]) -> tuple[list[Found], list[Unread]]:
    """Every `*.jsonl` below the folders; two roots that overlap give each file once."""
    found: dict[str, Found] = {}
    unread: dict[str, Unread] = {}
    for agent, folders in places.items():
        for folder in folders:
            for entry in _walk(str(folder), 0):
                if isinstance(entry, Unread):
                    unread.setdefault(entry.path, entry)
                else:
                    seen = entry.stat(follow_symlinks=False)
                    about = Found(agent, entry.path, seen.st_size, seen.st_mtime_ns, seen.st_ino)
                    found.setdefault(entry.path, about)
    return list(found.values()), list(unread.values())


def _folders(name: str, env: Mapping[str, str], path: str) -> list[Path]:
    spec = AGENTS[name]
    home = Path(env.get("HOME") or Path.home())
    base = Path(path or env.get(spec.home_variable) or home / spec.default)
    base = home / str(base)[2:] if str(base).startswith("~/") else base
    usual = [base / folder for folder in spec.folders if (base / folder).is_dir()]
    if usual:
        return usual
    return [base] if path and base.is_dir() else []


def _walk(folder: str, depth: int) -> Iterator[os.DirEntry[str] | Unread]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                yield from _entry(entry, depth)
    except OSError as exc:
        yield Unread(folder, f"unreadable folder: {exc.strerror}")


def _entry(entry: os.DirEntry[str], depth: int) -> Iterator[os.DirEntry[str] | Unread]:
    session = entry.name.endswith(_ENDING)
    if entry.is_dir(follow_symlinks=False):
        if session:
            yield Unread(entry.path, "a folder, not a file")
        if depth < _MAX_DEPTH:
            yield from _walk(entry.path, depth + 1)
    elif session:
        if entry.is_file(follow_symlinks=False):
            yield entry
        elif entry.is_symlink():
            yield Unread(entry.path, "a symbolic link")
        else:
            mode = entry.stat(follow_symlinks=False).st_mode
            yield Unread(entry.path, f"not a file ({stat.filemode(mode)[0]})")
