"""Memories in and out: one JSON object a line, or markdown files.

What is imported counts as written by hand: quotes of transcripts that are not stored here would prove nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lerim_jobs.errors import BadInput
from lerim_jobs.ids import derived
from lerim_jobs.log.events import Event, MemoryAdded, MemoryArchived
from lerim_jobs.log.store import Store
from lerim_jobs.memory.by_hand import checked, same_content
from lerim_jobs.memory.files import folder as disk
from lerim_jobs.memory.files.markdown import ARCHIVED, KINDS, BadFile, default_path, parse, place, render
from lerim_jobs.memory.files.merging import Content, content_of
from lerim_jobs.memory.files.reading import new_memory
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.stored import all_memories, memory_stream

__all__ = ["Found", "Imported", "as_line", "import_all", "read_source", "write_folder"]

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_LINE_BYTES = 1_048_576
_BATCH = 500


class Found(msgspec.Struct, frozen=True):
    """One memory of the source; `where` is its line or path, `problem` why it cannot be read."""

    where: str
    content: Content | None = None
    memory_id: str | None = None
    is_archived: bool = False
    problem: str | None = None


class Imported(msgspec.Struct):
    """`different` have an id that is known here with other words: those here stay."""

    added: int = 0
    known: int = 0
    different: int = 0
    unreadable: int = 0
    problems: list[dict[str, str]] = []


def as_line(memory: Memory, project: str | None) -> bytes:
    """A memory with everything that is known of it, as one JSON object."""
    return msgspec.json.encode({**msgspec.to_builtins(memory), "project": project})


def write_folder(folder: Path, memories: list[Memory], paths: Mapping[str, str]) -> int:
    """Markdown files as in a project's memory folder; returns how many. Raises BadInput before a file is overwritten."""
    targets: dict[str, Memory] = {}
    for memory in memories:
        path = paths.get(memory.memory_id) or default_path(memory)
        path = path if memory.status == "active" or path.startswith(ARCHIVED) else f"{ARCHIVED}{path}"
        targets[path if path not in targets else f"{path.removesuffix('.md')}-{memory.memory_id}.md"] = memory
    for path in targets:
        if ".." in Path(path).parts or Path(path).is_absolute():
            raise BadInput(f"{disk.shown(path)!r} leads out of the folder")
    for path, memory in targets.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(render(memory))
    return len(targets)


def read_source(source: Path) -> Iterator[Found]:
    """Every memory of a JSON-lines file or a folder of markdown. Raises BadInput when it is neither."""
    if source.is_dir():
        return _folder(source)
    if not source.is_file():
        raise BadInput(f"{str(source)!r} is neither a file nor a folder")
    return _lines(source)


def import_all(
    store: Store, project_id: str, found: Iterator[Found], *, dry_run: bool, meta: Mapping[str, Any]
) -> Imported:
    """Add what is not known yet. The same again adds nothing."""
    result = Imported()
    here = all_memories(store, project_id=project_id)
    said = {_key(content_of(memory)) for memory in here.values() if memory.status == "active"}
    waiting: list[tuple[str, list[Event]]] = []
    for one in found:
        if one.content is None:
            result.unreadable += 1
            result.problems.append({"path": one.where, "problem": one.problem or "cannot be read"})
            continue
        events = _wanted(store, project_id, one, here, said, result)
        if events:
            waiting.append(events)
            said.add(_key(one.content))
    result.added = len(waiting)
    for start in range(0, 0 if dry_run else len(waiting), _BATCH):
        with store.write() as tx:
            for memory_id, new in waiting[start : start + _BATCH]:
                tx.append(memory_stream(memory_id), new, expected=0, meta=meta)
    return result


def _wanted(
    store: Store,
    project_id: str,
    one: Found,
    here: Mapping[str, Memory],
    said: set[tuple[str, str, str]],
    result: Imported,
) -> tuple[str, list[Event]] | None:
    """The events that add it, unless it is known."""
    content = one.content
    assert content is not None
    memory_id = one.memory_id or derived("imported", project_id, content.kind, content.title, content.body)
    known = here.get(memory_id)
    if (known and same_content(known, content)) or _key(content) in said:
        result.known += 1
        return None
    if known or store.read(memory_stream(memory_id)):
        result.different += 1
        where = "with other words" if known else "in another project (`lerim project move` if that one lies here now)"
        result.problems.append({"path": one.where, "problem": f"memory {memory_id} is known {where}: that one stays"})
        return None
    added = MemoryAdded(
        memory_id, project_id, reason=f"imported from {one.where}", by_hand=True, **msgspec.structs.asdict(content)
    )
    return memory_id, [added, *([MemoryArchived(memory_id, "archived where it came from")] if one.is_archived else [])]


def _folder(source: Path) -> Iterator[Found]:
    for path in sorted(source.rglob("*.md")):
        where = disk.shown(str(path.relative_to(source)))
        if path.is_symlink() or any(part.startswith(".") for part in path.relative_to(source).parts):
            continue
        if where.endswith(disk.CONFLICT):
            continue
        try:
            parsed = parse(disk.read(source, str(path.relative_to(source))))
        except OSError as exc:
            yield Found(where, problem=exc.strerror or "unreadable")
            continue
        if isinstance(parsed, BadFile):
            yield Found(where, problem=f"line {parsed.line}: {parsed.problem}")
        elif not (parsed.title or parsed.body):
            yield Found(where, problem="it is empty")
        else:
            event = new_memory("", "", where, parsed)
            content = Content(event.title, event.body, event.confidence, event.tags, event.kind)
            is_archived = place(where)[1] or parsed.status in ("archived", "merged")
            yield Found(where, content, parsed.memory_id, is_archived)


def _lines(source: Path) -> Iterator[Found]:
    with source.open("rb") as file:
        number = 0
        while line := file.readline(_MAX_LINE_BYTES + 1):
            number += 1
            where = f"{source.name}:{number}"
            if len(line) > _MAX_LINE_BYTES:
                raise BadInput(f"{disk.shown(where)}: the line is longer than 1 MiB; nothing was imported")
            if line.strip():
                yield _line(where, line)


def _line(where: str, line: bytes) -> Found:
    try:
        given = msgspec.json.decode(line, type=dict[str, Any])
        kind = given.get("kind", "insight")
        memory_id = given.get("memory_id")
        if kind not in KINDS or (
            memory_id is not None and not (isinstance(memory_id, str) and _ID.fullmatch(memory_id))
        ):
            return Found(where, problem="its kind or memory_id is none of ours")
        raw = {
            "title": given["title"],
            "body": given.get("body", ""),
            "confidence": given.get("confidence", 1.0),
            "tags": given.get("tags") or [],
            "kind": kind,
        }
        content = checked(msgspec.convert(raw, Content))
    except KeyError as exc:
        return Found(where, problem=f"it has no {exc.args[0]!r}")
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as exc:
        return Found(where, problem=f"not a memory: {exc}")
    except BadInput as exc:
        return Found(where, problem=str(exc))
    return Found(where, content, memory_id, given.get("status", "active") != "active")


def _key(content: Content) -> tuple[str, str, str]:
    return content.kind, content.title, content.body
