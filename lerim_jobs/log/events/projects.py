"""Streams `project-<project_id>`: registered folders and what was written there."""

from __future__ import annotations

import msgspec

from lerim_jobs.log.events.event import Event

__all__ = [
    "MemoryAccessed",
    "ProjectAdded",
    "ProjectCurated",
    "ProjectEvent",
    "ProjectMoved",
    "ProjectPlaceSeen",
    "ProjectPublished",
    "ProjectRemoved",
    "PublishedFile",
]


class ProjectAdded(Event, frozen=True):
    """A folder was registered; its memories live in `<path>/.lerim/memory`."""

    project_id: str
    name: str
    path: str
    host: str


class ProjectRemoved(Event, frozen=True):
    """The folder is no longer synced; its memories stay."""

    project_id: str


class ProjectMoved(Event, frozen=True):
    """The project's folder is another one now, with all that belonged to it; sessions of the old one are still the project's."""

    project_id: str
    name: str
    path: str


class ProjectPlaceSeen(Event, frozen=True):
    """A folder elsewhere is the project's, such as a linked worktree of git: remembered, because it may be gone tomorrow."""

    project_id: str
    path: str


class PublishedFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One markdown file as it was last written: `path` below the memory folder, `digest` of its bytes.

    An empty `path` means the file is gone. `conflict` is the version that was put beside a file whose hand edit overlaps
    with it; 0 means there is none.
    """

    memory_id: str
    path: str
    digest: str
    version: int
    conflict: int = 0


class ProjectPublished(Event, frozen=True):
    """Markdown files were written, moved or removed. `checkout` is what git had checked out then, empty without git."""

    project_id: str
    files: list[PublishedFile]
    checkout: str = ""


class ProjectCurated(Event, frozen=True):
    """A clean-up looked at these batches of memories; a mark changes with any memory of its batch."""

    project_id: str
    marks: list[str]


class MemoryAccessed(Event, frozen=True):
    """Memories were cited by an answer or shown to someone: their decay starts anew."""

    project_id: str
    memory_ids: list[str]


ProjectEvent = (
    ProjectAdded | ProjectRemoved | ProjectMoved | ProjectPlaceSeen | ProjectPublished | ProjectCurated | MemoryAccessed
)
