"""Between the log and a project's markdown files: hand edits in, memories out, and no one's words overwritten.

A file whose bytes are those last published, or those of any version of its memory, was not edited. Anything else is a
person's edit: it becomes an event; where the memory moved on meanwhile, both are kept and it is said so.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from lerim_jobs import faults
from lerim_jobs.ids import digest
from lerim_jobs.log.events import MemoryArchived, MemoryEdited, PublishedFile
from lerim_jobs.memory.files import BadFile, default_path, parse, render
from lerim_jobs.memory.memory import Memory

__all__ = ["Import", "Problem", "Written", "read_edits", "write"]

AtVersion = Callable[[str, int], Memory | None]
"""(memory id, version) -> the memory as it was then."""


_GONE = ("undone", "redacted")
"""Statuses of memories that have no file."""


class Problem(msgspec.Struct, frozen=True):
    """Something a person should look at: the path below the memory folder and what is wrong."""

    path: str
    problem: str


class Import(msgspec.Struct, frozen=True):
    """What people did to the files since they were published."""

    edits: list[MemoryEdited]
    deleted: list[MemoryArchived]
    problems: list[Problem]


class Written(msgspec.Struct, frozen=True):
    """What was written: new states of files (an empty path: gone), and what was left alone."""

    files: list[PublishedFile]
    problems: list[Problem]


def read_edits(
    folder: Path, published: Mapping[str, PublishedFile], memories: Mapping[str, Memory], at_version: AtVersion
) -> Import:
    """Compare the files with what was published last. Nothing is written."""
    result = Import([], [], [])
    for memory_id, file in published.items():
        memory = memories.get(memory_id)
        if memory is None or memory.status in _GONE:
            continue
        data = _read(folder, file.path)
        if data is None:
            if memory.status == "active":
                result.deleted.append(MemoryArchived(memory_id, "its file was deleted"))
        elif digest(data) != file.digest:
            _edit(data, file, memory, at_version, result)
    return result


def write(folder: Path, memories: Mapping[str, Memory], published: Mapping[str, PublishedFile]) -> Written:
    """Write what changed, each file whole and at once. A file somebody else put in the way is never overwritten."""
    result = Written([], [])
    for memory in memories.values():
        before = published.get(memory.memory_id)
        if memory.status != "active" and before is None:
            continue
        if before and memory.status in _GONE:
            _take_away(folder, memory, before, result)
            continue
        path = _path(memory, before)
        data = render(memory)
        after = PublishedFile(memory.memory_id, path, digest(data), memory.version)
        if before == after and _read(folder, path) is not None:
            continue
        if problem := _put(folder, path, data, before):
            result.problems.append(Problem(path, problem))
            continue
        if before and before.path != path:
            _remove(folder, before)
        result.files.append(after)
    return result


def _edit(data: bytes, file: PublishedFile, memory: Memory, at_version: AtVersion, result: Import) -> None:
    found = parse(data)
    if isinstance(found, BadFile):
        result.problems.append(Problem(file.path, f"line {found.line}: {found.problem}; left alone"))
        return
    if found.memory_id != memory.memory_id:
        result.problems.append(Problem(file.path, "its id was changed; left alone"))
        return
    then = at_version(memory.memory_id, found.version)
    base = then or memory
    mine = (found.title, found.body, found.confidence, found.tags)
    if mine == (base.title, base.body.strip(), base.confidence, base.tags):
        return  # also when a publish wrote it and died before it could say so
    if found.version < memory.version and _content(memory) != _content(base):
        result.problems.append(
            Problem(
                file.path, f"edited by hand at version {found.version}, but it is at {memory.version}: both are kept"
            )
        )
        return
    result.edits.append(MemoryEdited(memory.memory_id, *mine))


def _content(memory: Memory) -> tuple[str, str, float, list[str]]:
    return memory.title, memory.body, memory.confidence, memory.tags


def _path(memory: Memory, before: PublishedFile | None) -> str:
    """Names stay; only archiving and restoring moves a file."""
    path = before.path if before else default_path(memory)
    plain = path.removeprefix("archived/")
    return plain if memory.status == "active" else f"archived/{plain}"


def _put(folder: Path, path: str, data: bytes, before: PublishedFile | None) -> str | None:
    """Write the file, or say why not; a conflicting version of ours is put beside theirs."""
    target = folder / path
    if not _inside(folder, target):
        return "a symbolic link leads out of the memory folder; nothing was written"
    there = _read(folder, path)
    ours = {digest(data), before.digest if before and before.path == path else ""}
    if there is not None and digest(there) not in ours:
        _replace(target.with_suffix(".conflict.md"), data)
        return "it holds other text: that was left alone, ours is beside it as .conflict.md"
    if there != data:
        _replace(target, data)
    return None


def _inside(folder: Path, target: Path) -> bool:
    target.parent.mkdir(parents=True, exist_ok=True)
    real = Path(os.path.realpath(target.parent))
    root = Path(os.path.realpath(folder.parent.parent))
    return not target.is_symlink() and (real == root or root in real.parents)


def _read(folder: Path, path: str) -> bytes | None:
    try:
        return (folder / path).read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _replace(target: Path, data: bytes) -> None:
    """Write beside it and rename: a reader sees the old file or the new one, never half."""
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".lerim-", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            if faults.armed(faults.DISK_FULL):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise


def _take_away(folder: Path, memory: Memory, before: PublishedFile, result: Written) -> None:
    """Remove our file of a memory that is no more; one that somebody edited is theirs, and is published no longer."""
    data = _read(folder, before.path)
    if data is not None and digest(data) != before.digest:
        result.problems.append(Problem(before.path, f"it was edited, but its memory is {memory.status}: left alone"))
    _remove(folder, before)
    result.files.append(PublishedFile(memory.memory_id, "", "", memory.version))


def _remove(folder: Path, before: PublishedFile) -> None:
    """Remove the old place of a moved file, unless somebody changed it."""
    data = _read(folder, before.path)
    if data is not None and digest(data) == before.digest:
        (folder / before.path).unlink()
