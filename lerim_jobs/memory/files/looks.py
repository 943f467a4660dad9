"""What files looked like when their bytes were last read, so that they are read again only when they look different.

A cache that may be deleted at any time: one document a file, in a view of the project's own. A project belongs to one host, so
do its marks.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lerim_jobs.log.store import Store
from lerim_jobs.memory.files.folder import Mark

__all__ = ["LEFT_ALONE", "PREFIX", "Marks", "load", "save", "view_of"]

PREFIX = "marks-"
LEFT_ALONE = "!"
"""Stands for a digest: the file was looked at and is no memory's, or cannot be read as one."""

_SETTLED_NS = 2_000_000_000
"""A file that changed within the clock's coarsest tick may change again and look the same."""

Marks = dict[str, tuple[Mark, str]]
"""Path -> how it looked, and the digest of its bytes."""

_decoder = msgspec.json.Decoder(tuple[int, int, int, str])


def view_of(project_id: str) -> str:
    """The name of the project's own view."""
    return f"{PREFIX}{project_id}"


def load(store: Store, project_id: str) -> Marks:
    """All marks of the project."""
    marks: Marks = {}
    for path, value in store.docs(view_of(project_id)):
        *mark, known = _decoder.decode(value)
        marks[path] = (Mark(*mark), known)
    return marks


def save(store: Store, project_id: str, new: Mapping[str, tuple[Mark, str] | None], *, now_ns: int) -> None:
    """Keep marks of files that have not changed just now; None forgets one."""
    settled = {path: mark for path, mark in new.items() if mark is None or mark[0].mtime_ns < now_ns - _SETTLED_NS}
    if not settled:
        return
    with store.write() as tx:
        for path, mark in settled.items():
            value = msgspec.json.encode((*mark[0], mark[1])) if mark else None
            tx.put_doc(view_of(project_id), path, value)
