"""Redaction of what lies beside the log: spans, logs, and the markdown of projects."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from lerim_jobs.ids import digest
from lerim_jobs.log.events import PublishedFile
from lerim_jobs.machine import whole_file
from lerim_jobs.redaction.remains import is_binary
from lerim_jobs.redaction.rewriting import neutral
from lerim_jobs.redaction.scrubbing import Scrubber
from lerim_jobs.tracing.local.store import SpanStore
from lerim_jobs.tracing.skeleton.record import SpanRecord

__all__ = ["files_below", "rename_files", "scrub_files", "scrub_spans"]

_BARE = re.compile(r"(?m)^([a-z_]+): (\[REDACTED\].*)$")
_THEIRS = ("config.toml", ".env")
"""Files that people keep for themselves: read for leftovers, never changed."""


def scrub_spans(path: Path, scrubber: Scrubber) -> int:
    """Spans of a local span store that changed."""

    def scrubbed(span: SpanRecord) -> SpanRecord:
        return msgspec.convert(scrubber.value(msgspec.to_builtins(span, enc_hook=str)), SpanRecord)

    store = SpanStore(path)
    try:
        return store.rewrite(scrubbed)
    finally:
        store.close()


def rename_files(folder: Path, files: Mapping[str, PublishedFile], renamed: set[str]) -> dict[Path, str]:
    """Name files after no title that is gone, as the log names them now; returns what was published as which bytes.

    `files` of the memory folder, by memory id, as they were named before.
    """
    published = {}
    for memory_id, file in files.items():
        if memory_id not in renamed:
            published[folder / file.path] = file.digest
            continue
        old, new = folder / file.path, folder / neutral(file.path, memory_id)
        with suppress(FileNotFoundError):
            old.with_suffix(".conflict.md").replace(new.with_suffix(".conflict.md"))
        if not new.exists():
            with suppress(FileNotFoundError):
                old.replace(new)
        published[new] = file.digest
    return published


def scrub_files(
    folder: Path,
    scrubber: Scrubber,
    *,
    skip: frozenset[str] = frozenset(),
    published: Mapping[Path, str] | None = None,
    in_place: bool = False,
) -> int:
    """Text files below the folder that changed. `published` ones are left to the next publish while nobody edited them.

    `in_place`: somebody may have them open to append to them.
    """
    changed = 0
    for path in files_below(folder):
        if path.name in _THEIRS or path.relative_to(folder).parts[0] in skip or _is_binary(path):
            continue
        with suppress(FileNotFoundError):
            before = path.read_bytes()
            if published and published.get(path) == digest(before):
                continue
            text = before.decode("utf-8", "surrogateescape")
            if (after := scrubber.text(text)) != text:
                data = _front_matter(after) if path.suffix == ".md" else after
                _write(path, data.encode("utf-8", "surrogateescape"), in_place=in_place)
                changed += 1
    return changed


def _is_binary(path: Path) -> bool:
    """Databases, archives, pictures: what is edited as text is one of these no more."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        return is_binary(file.read(8192))
    return True


def _front_matter(text: str) -> str:
    """Quoted where YAML would take the brackets for a list."""
    front, fence, rest = text.partition("\n---\n")
    return _BARE.sub(lambda line: f"{line[1]}: '{line[2].replace(chr(39), chr(39) * 2)}'", front) + fence + rest


def files_below(folder: Path) -> Iterator[Path]:
    """Regular files, sorted; links lead elsewhere and are not followed."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _write(path: Path, data: bytes, *, in_place: bool) -> None:
    if in_place:
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()
        return
    whole_file.put(path, data, mode=path.stat().st_mode & 0o777, fsync=os.fsync)
