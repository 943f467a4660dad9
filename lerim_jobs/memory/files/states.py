"""Which file each memory has and whether it is up to date: one small document a memory, so that publishing reads no others."""

from __future__ import annotations

from typing import get_args

import msgspec

from lerim_jobs.log.codec import Recorded, encode
from lerim_jobs.log.events import (
    MemoryAdded,
    MemoryArchived,
    MemoryEvent,
    MemoryMerged,
    MemoryRedacted,
    MemoryRestored,
    MemoryReverted,
    MemoryStatus,
    ProjectPublished,
)
from lerim_jobs.log.projection import View, catch_up, fold_part
from lerim_jobs.log.store import Store

__all__ = ["FILES", "FileState", "file_states", "files_of"]


class FileState(msgspec.Struct, frozen=True, array_like=True):
    """A memory's version and status, and its file as it was last written: `path` (empty: none), `digest`, `published`
    (the newest version that any file of it had) and `conflict` (the version that lies beside it; 0: none).

    A path without a digest: what git has checked out has no such file, other branches may.
    """

    memory_id: str
    project_id: str
    version: int
    status: MemoryStatus
    path: str = ""
    digest: str = ""
    published: int = 0
    conflict: int = 0

    @property
    def has_file(self) -> bool:
        """Whether the memory should have a file; one that was archived before it ever had one gets none."""
        return self.status == "active" or (self.status in ("archived", "merged") and self.path != "")

    @property
    def is_here(self) -> bool:
        """Whether its file is part of what git has checked out, or of no git."""
        return self.path != "" and self.digest != ""

    @property
    def is_elsewhere(self) -> bool:
        """Whether only other branches may have its file: there it waits, and here none is written."""
        return self.path != "" and self.digest == ""

    @property
    def waits(self) -> bool:
        """Whether its file is not yet what the log says."""
        if self.is_elsewhere:
            return not self.has_file
        return self.version != self.published if self.has_file else self.path != ""


def file_states(store: Store, project_id: str) -> dict[str, FileState]:
    """Every memory of the project, by id; those of other projects are not read."""
    return fold_part(store, FILES, project_id)


def files_of(store: Store, memory_ids: list[str]) -> dict[str, FileState]:
    """The states of these memories; unknown ids are left out."""
    catch_up(store, FILES)
    found = {key: store.doc(FILES.name, key) for key in memory_ids}
    decoder = msgspec.json.Decoder(FileState)
    return {key: decoder.decode(value) for key, value in found.items() if value is not None}


_STATUS: dict[type, MemoryStatus] = {
    MemoryArchived: "archived",
    MemoryMerged: "merged",
    MemoryRedacted: "redacted",
    MemoryRestored: "active",
}


def _apply(state: FileState | None, row: Recorded) -> FileState | None:
    event = row.event
    if isinstance(event, MemoryAdded) and state is None:
        return FileState(event.memory_id, event.project_id, row.version, "active")
    if state is None or event is None:
        return state
    if isinstance(event, ProjectPublished):
        (file,) = event.files
        told = {"path": file.path, "digest": file.digest, "published": file.version, "conflict": file.conflict}
        return msgspec.structs.replace(state, **told)
    if isinstance(event, MemoryAdded):
        return msgspec.structs.replace(state, version=row.version, status="active")
    status = event.status if isinstance(event, MemoryReverted) else _STATUS.get(type(event), state.status)
    if state.status == "redacted":
        status = "redacted"
    return msgspec.structs.replace(state, version=row.version, status=status)


def _spread(row: Recorded) -> list[tuple[str, Recorded]]:
    event = row.event
    if not isinstance(event, ProjectPublished):
        return [(row.stream.removeprefix("memory-"), row)]
    return [
        (file.memory_id, msgspec.structs.replace(row, data=encode(ProjectPublished(event.project_id, [file]))))
        for file in event.files
    ]


FILES: View[FileState] = View(
    name="files",
    version=2,
    shape=FileState,
    types=(*(kind.__name__ for kind in get_args(MemoryEvent)), ProjectPublished.__name__),
    key=lambda row: row.stream,
    apply=_apply,
    spread=_spread,
    part=lambda state: state.project_id,
)
