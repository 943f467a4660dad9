"""What files looked like when their bytes were last read, so that they are read again only when they look different.

A cache that may be deleted at any time: one document a file, in a view of the project's own. A project belongs to one host, so
do the looks of its files.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lerim_jobs.log.store import Store
from lerim_jobs.memory.files.folder import Look

__all__ = ["LEFT_ALONE", "PREFIX", "Looks", "load", "save", "view_of"]

PREFIX = "marks-"
"""What the views are called in every log there is."""

LEFT_ALONE = "!"
"""Stands for a digest: the file was looked at and is no memory's, or cannot be read as one."""

_SETTLED_NS = 2_000_000_000
"""A file that changed within the clock's coarsest tick may change again and look the same."""

Looks = dict[str, tuple[Look, str]]
"""Path -> how it looked, and the digest of its bytes."""

_decoder = msgspec.json.Decoder(tuple[int, int, int, str])


def view_of(project_id: str) -> str:
    """The name of the project's own view."""
    return f"{PREFIX}{project_id}"


def load(store: Store, project_id: str) -> Looks:
    """How every file of the project looked."""
    looks: Looks = {}
    for path, value in store.docs(view_of(project_id)):
        *look, known = _decoder.decode(value)
        looks[path] = (Look(*look), known)
    return looks


def save(store: Store, project_id: str, new: Mapping[str, tuple[Look, str] | None], *, now_ns: int) -> None:
    """Keep how files look that have not changed just now; None forgets one."""
    settled = {path: seen for path, seen in new.items() if seen is None or seen[0].mtime_ns < now_ns - _SETTLED_NS}
    if not settled:
        return
    with store.write() as tx:
        for path, seen in settled.items():
            value = msgspec.json.encode((*seen[0], seen[1])) if seen else None
            tx.put_doc(view_of(project_id), path, value)
