"""Memories become markdown files: only those that changed are read and written, and no one's words are overwritten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import msgspec

from lerim_jobs.ids import digest, slug
from lerim_jobs.log.events import PublishedFile
from lerim_jobs.memory.files import folder as disk
from lerim_jobs.memory.files.changes import Changes, Problem
from lerim_jobs.memory.files.edits import beside
from lerim_jobs.memory.files.folder import LeftAlone
from lerim_jobs.memory.files.markdown import ARCHIVED, default_path, render
from lerim_jobs.memory.files.states import FileState
from lerim_jobs.memory.memory import Memory

__all__ = ["Written", "write"]

_BATCH = 500


class Written(msgspec.Struct):
    """New states of files (an empty path: gone), how many were really written and removed, and what was left alone."""

    files: list[PublishedFile] = []
    written: int = 0
    removed: int = 0
    problems: list[Problem] = []


def write(changes: Changes, states: dict[str, FileState], load: Callable[[Sequence[str]], Sequence[Memory]]) -> Written:
    """Bring the files to the state of the log. `states` are those after the changes were appended."""
    result = Written()
    stale = [key for key, state in states.items() if _is_stale(changes, state)]
    taken = {state.path for state in states.values()} | set(changes.paths.values())
    for start in range(0, len(stale), _BATCH):
        for memory in load(stale[start : start + _BATCH]):
            state = states[memory.memory_id]
            path = changes.paths.get(memory.memory_id, state.path)
            try:
                if memory.memory_id in changes.beside:
                    _put_beside(changes, memory, state, path, result)
                elif state.has_file or memory.memory_id in changes.paths:
                    _put(changes, memory, state, path, taken, result)
                else:
                    _take_away(changes, memory, state, path, result)
            except LeftAlone as why:
                result.problems.append(Problem(disk.shown(path or default_path(memory)), str(why)))
    return result


def _is_stale(changes: Changes, state: FileState) -> bool:
    """Whether the file may not be what it should be; asked for every memory, so it must be quick."""
    key = state.memory_id
    if key in changes.left:
        return key in changes.beside
    if key in changes.paths or key in changes.seen or key in changes.found.missing:
        return True
    return state.version != state.published if state.has_file else state.path != ""


def _put(changes: Changes, memory: Memory, state: FileState, path: str, taken: set[str], result: Written) -> None:
    folder, key = changes.found.folder, memory.memory_id
    if memory.status in ("undone", "redacted") or key in changes.gone:
        _take_away(changes, memory, state, path, result)
        return
    wanted = _place(memory, path)
    if wanted != path:
        wanted = _free(folder, wanted, key, taken)
        if path:
            disk.move(folder, path, wanted)
        taken.add(wanted)
    data = render(memory)
    over = {state.digest, changes.seen.get(key, "")}
    result.written += disk.replace(folder, wanted, data, over=over)
    _clear_beside(changes, memory, state, path)
    file = PublishedFile(key, wanted, digest(data), memory.version)
    if _state_of(file) != _state_of(state):
        result.files.append(file)


def _take_away(changes: Changes, memory: Memory, state: FileState, path: str, result: Written) -> None:
    """The memory has no file any more; one that somebody edited was left before."""
    if path:
        disk.discard(changes.found.folder, path, only={state.digest, changes.seen.get(state.memory_id, "")})
        result.removed += state.memory_id not in changes.found.missing
    _clear_beside(changes, memory, state, path)
    result.files.append(PublishedFile(state.memory_id, "", "", state.version))


def _put_beside(changes: Changes, memory: Memory, state: FileState, path: str, result: Written) -> None:
    over = {_digest_at(changes, memory.memory_id, state.conflict)}
    result.written += disk.replace(changes.found.folder, beside(path), render(memory), over=over)
    result.files.append(PublishedFile(memory.memory_id, path, state.digest, state.published, memory.version))


def _clear_beside(changes: Changes, memory: Memory, state: FileState, path: str) -> None:
    """A conflict that is over needs no version of ours any more; one that a person changed is theirs and stays."""
    if state.conflict and path:
        only = None if memory.status == "redacted" else {_digest_at(changes, state.memory_id, state.conflict)}
        with suppress(LeftAlone):
            disk.discard(changes.found.folder, beside(path), only=only)


def _digest_at(changes: Changes, memory_id: str, version: int) -> str:
    then = changes.known.at_version(memory_id, version) if version else None
    return digest(render(then)) if then else ""


def _place(memory: Memory, path: str) -> str:
    """Names stay; only archiving and restoring moves a file."""
    plain = (path or default_path(memory)).removeprefix(ARCHIVED)
    return plain if memory.status == "active" else f"{ARCHIVED}{plain}"


def _free(folder: Path, path: str, memory_id: str, taken: set[str]) -> str:
    """The path, or one with the id in it where another file has that name: never two memories in one file."""
    pure, key = PurePosixPath(path), slug(memory_id)
    for name in (pure.name, f"{pure.stem}-{key[:8]}.md", f"{pure.stem}-{key}.md"):
        candidate = str(pure.with_name(name))
        if candidate not in taken and not disk.exists(folder, candidate):
            return candidate
    raise LeftAlone("other files have its name")


def _state_of(file: PublishedFile | FileState) -> tuple[str, str, int, int]:
    version = file.published if isinstance(file, FileState) else file.version
    return file.path, file.digest, version, file.conflict
