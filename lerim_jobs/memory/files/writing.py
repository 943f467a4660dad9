"""Memories become markdown files: only those that changed are read and written, and no one's words are overwritten."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import msgspec

from lerim_jobs.ids import digest, slug
from lerim_jobs.log.events import PublishedFile
from lerim_jobs.machine.whole_file import Fsync
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


def write(
    changes: Changes,
    states: dict[str, FileState],
    load: Callable[[Sequence[str]], Sequence[Memory]],
    fsync: Fsync = os.fsync,
) -> Written:
    """Bring the files to the state of the log. `states` are those after the changes were appended.

    Every file in the result outlives a power cut; where the disk does not promise that, there are none in it, and the
    next publish finds them as they are.
    """
    writer = _Writer(changes, {state.path for state in states.values()} | set(changes.paths.values()), fsync)
    for key in changes.lacking:
        writer.result.files.append(PublishedFile(key, states[key].path, "", states[key].published))
    for key, (path, seen) in changes.held.items():
        writer.result.files.append(PublishedFile(key, path, seen, states[key].published))
    stale = [key for key, state in states.items() if _is_stale(changes, state)]
    for start in range(0, len(stale), _BATCH):
        for memory in load(stale[start : start + _BATCH]):
            writer.bring(memory, states[memory.memory_id])
    return writer.finished()


def _is_stale(changes: Changes, state: FileState) -> bool:
    """Whether the file may not be what it should be; asked for every memory, so it must be quick."""
    key = state.memory_id
    if key in changes.left:
        return key in changes.beside
    if key in changes.lacking or key in changes.held:
        return False
    if key in changes.paths or key in changes.seen or key in changes.found.missing:
        return True
    return state.waits


@dataclass
class _Writer:
    """One pass over the folder. `taken` are paths that belong to a memory, `touched` those whose name came or went."""

    changes: Changes
    taken: set[str]
    fsync: Fsync
    result: Written = field(default_factory=Written)
    touched: set[str] = field(default_factory=set)

    def bring(self, memory: Memory, state: FileState) -> None:
        """Bring one memory's file to what it should be, or say why not."""
        path = self.changes.paths.get(memory.memory_id, state.path)
        try:
            if memory.memory_id in self.changes.beside:
                self._put_beside(memory, state, path)
            elif state.has_file or memory.memory_id in self.changes.paths:
                self._put(memory, state, path)
            else:
                self._take_away(memory, state, path)
        except LeftAlone as why:
            self.result.problems.append(Problem(disk.shown(path or default_path(memory)), str(why)))

    def finished(self) -> Written:
        """What was done, once the disk keeps it."""
        try:
            disk.keep_names(self.changes.found.folder, self.touched, self.fsync)
        except OSError as exc:
            self.result.files = []
            self.result.problems.append(
                Problem(".", f"the disk did not confirm what was written: {exc.strerror}; tried again next time")
            )
        return self.result

    def _put(self, memory: Memory, state: FileState, path: str) -> None:
        changes, folder, key = self.changes, self.changes.found.folder, memory.memory_id
        if memory.status in ("undone", "redacted") or key in changes.gone:
            self._take_away(memory, state, path)
            return
        wanted = _place(memory, path)
        if wanted != path:
            wanted = _free(folder, wanted, key, self.taken)
            if path:
                self.touched.add(path)
                disk.move(folder, path, wanted)
            self.taken.add(wanted)
        data = render(memory)
        self._replace(wanted, data, {state.digest, changes.seen.get(key, "")})
        self._clear_beside(memory, state, path, state.path)
        file = PublishedFile(key, wanted, digest(data), memory.version)
        if _state_of(file) != _state_of(state):
            self.result.files.append(file)

    def _replace(self, path: str, data: bytes, over: set[str]) -> None:
        self.touched.add(path)
        self.result.written += disk.replace(self.changes.found.folder, path, data, over=over, fsync=self.fsync)

    def _take_away(self, memory: Memory, state: FileState, path: str) -> None:
        """The memory has no file any more; one that somebody edited was left before."""
        if path:
            self.touched.add(path)
            seen = self.changes.seen.get(state.memory_id, "")
            disk.discard(self.changes.found.folder, path, only={state.digest, seen})
            self.result.removed += state.memory_id not in self.changes.found.missing
        self._clear_beside(memory, state, path, state.path)
        self.result.files.append(PublishedFile(state.memory_id, "", "", state.version))

    def _put_beside(self, memory: Memory, state: FileState, path: str) -> None:
        over = {_digest_at(self.changes, memory.memory_id, state.conflict)}
        self._replace(beside(path), render(memory), over)
        if path != state.path:
            self._clear_beside(memory, state, state.path)
        file = PublishedFile(memory.memory_id, path, state.digest, state.published, memory.version)
        self.result.files.append(file)

    def _clear_beside(self, memory: Memory, state: FileState, *paths: str) -> None:
        """A conflict that is over needs no version of ours any more; one that a person changed is theirs and stays."""
        if not state.conflict:
            return
        only = None if memory.status == "redacted" else {_digest_at(self.changes, state.memory_id, state.conflict)}
        for path in filter(None, paths):
            with suppress(LeftAlone):
                disk.discard(self.changes.found.folder, beside(path), only=only)


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
