"""Finding session files: quickly, without following links out of the agents' folders, and without ever failing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from lerim_jobs.config import Agent, AgentSetting
from lerim_jobs.errors import ConfigError
from lerim_jobs.sessions.agents import AGENTS

__all__ = ["Found", "Unread", "given_folders", "missing", "named", "roots", "scan"]

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


def roots(env: Mapping[str, str], configured: Mapping[str, AgentSetting]) -> dict[str, list[Path]]:
    """The folders to read, by agent. Without configuration every known agent's usual folders that exist.

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
        places = named(env, name, given)
        if folders := _once(
            folder for place in places for folder in _below(name, place, is_given=bool(given_folders(given)))
        ):
            found[name] = folders
    return found


def scan(places: Mapping[str, list[Path]]) -> tuple[list[Found], list[Unread]]:
    """Every `*.jsonl` below the folders; two roots that overlap give each file once."""
    found: dict[str, Found] = {}
    unread: dict[str, Unread] = {}
    for agent, folders in places.items():
        for root in folders:
            below = [(str(root), 0)]
            while below:
                folder, depth = below.pop()
                _look(agent, folder, depth, found, unread, below)
    return list(found.values()), list(unread.values())


def named(env: Mapping[str, str], name: str, given: AgentSetting | None) -> list[Path]:
    """The agent's folders as the settings, else its variable, else its habit names them, whether they exist or not."""
    spec = AGENTS[name]
    home = Path(env.get("HOME") or Path.home())
    paths = given_folders(given) or _several(env.get(spec.home_variable, "")) or list(spec.defaults)
    return [home / path.removeprefix("~/") for path in paths]


def missing(env: Mapping[str, str], name: str, given: AgentSetting | None) -> list[Path]:
    """Folders that somebody named and that do not exist; of the usual ones one is enough."""
    if isinstance(given, Agent) and not given.enabled:
        return []
    places = named(env, name, given)
    lost = [place for place in places if not place.is_dir()]
    return lost if given_folders(given) or len(lost) == len(places) else []


def given_folders(given: AgentSetting | None) -> list[str]:
    """The folders that a setting names, none for the usual ones."""
    path = given.path if isinstance(given, Agent) else given
    return [one for one in ([path] if isinstance(path, str) else path or []) if one]


def _several(value: str) -> list[str]:
    """A folder, or several with commas between; a comma in the name of one that exists is its own."""
    if not value or os.path.isdir(value):
        return [value] if value else []
    return [one.strip() for one in value.split(",") if one.strip()]


def _below(name: str, base: Path, *, is_given: bool) -> list[Path]:
    usual = [base / folder for folder in AGENTS[name].folders if (base / folder).is_dir()]
    return usual or ([base] if is_given and base.is_dir() else [])


def _once(folders: Iterable[Path]) -> list[Path]:
    """Without those that are another one by another name."""
    return list({os.path.realpath(folder): folder for folder in reversed(list(folders))}.values())[::-1]


def _look(
    agent: str,
    folder: str,
    depth: int,
    found: dict[str, Found],
    unread: dict[str, Unread],
    below: list[tuple[str, int]],
) -> None:
    """One folder: its files into `found` or `unread`, its folders into `below`."""
    try:
        with _opened(folder, follow=depth == 0) as descriptor, os.scandir(descriptor) as entries:
            for entry in entries:
                path = f"{folder}/{entry.name}"
                if entry.name.endswith(_ENDING):
                    one = _file(agent, path, entry)
                    if isinstance(one, Found):
                        found.setdefault(path, one)
                        continue
                    unread.setdefault(path, one)
                if depth < _MAX_DEPTH and entry.is_dir(follow_symlinks=False):
                    below.append((path, depth + 1))
    except OSError as exc:
        unread.setdefault(folder, Unread(folder, f"unreadable folder: {exc.strerror}"))


@contextmanager
def _opened(folder: str, *, follow: bool) -> Iterator[int]:
    """By descriptor: looking at a file then needs no way through its folders, and nobody can put a link in between."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _file(agent: str, path: str, entry: os.DirEntry[str]) -> Found | Unread:
    try:
        about = entry.stat(follow_symlinks=False)
    except OSError as exc:
        return Unread(path, f"unreadable: {exc.strerror}")
    if stat.S_ISREG(about.st_mode):
        return Found(agent, path, about.st_size, about.st_mtime_ns, about.st_ino)
    if stat.S_ISDIR(about.st_mode):
        return Unread(path, "a folder, not a file")
    if stat.S_ISLNK(about.st_mode):
        return Unread(path, "a symbolic link")
    return Unread(path, f"not a file ({stat.filemode(about.st_mode)[0]})")
