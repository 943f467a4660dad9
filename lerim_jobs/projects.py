"""Registered projects, what git had checked out at the last publish, and when their memories were used."""

from __future__ import annotations

from typing import get_args

import msgspec

from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    MemoryAccessed,
    ProjectAdded,
    ProjectCurated,
    ProjectEvent,
    ProjectMoved,
    ProjectPlaceSeen,
    ProjectPublished,
    ProjectRemoved,
)
from lerim_jobs.log.projection import View, fold_all
from lerim_jobs.log.store import Store

__all__ = ["PROJECTS", "Project", "active_projects", "project_stream"]

_MOST_PLACES = 1_000


class Project(msgspec.Struct, frozen=True, omit_defaults=True):
    """A folder whose sessions become memories. Which files it has is in `memory/files/states.py`."""

    project_id: str
    name: str
    path: str
    host: str
    version: int = 0
    removed: bool = False
    checkout: str = ""
    accessed_ms: dict[str, int] = {}
    curated: list[str] = []
    """Keys of the batches of memories that a clean-up has seen as they are."""
    places: list[str] = []
    """Folders elsewhere that are or were the project's: linked worktrees, and where it lay before it was moved."""


def project_stream(project_id: str) -> str:
    """The stream of a project."""
    return f"project-{project_id}"


def active_projects(store: Store) -> dict[str, Project]:
    """Projects that are registered now, by id, sorted by name."""
    projects = (project for project in fold_all(store, PROJECTS).values() if not project.removed)
    return {project.project_id: project for project in sorted(projects, key=lambda project: project.name)}


def _apply(project: Project | None, row: Recorded) -> Project | None:
    event = row.event
    if isinstance(event, ProjectAdded):
        old = project or Project(event.project_id, event.name, event.path, event.host)
        return msgspec.structs.replace(
            old, name=event.name, path=event.path, host=event.host, removed=False, version=row.version
        )
    if project is None:
        return None
    match event:
        case ProjectRemoved():
            return msgspec.structs.replace(project, removed=True, version=row.version)
        case ProjectMoved():
            return msgspec.structs.replace(
                project, name=event.name, path=event.path, places=_with(project, project.path), version=row.version
            )
        case ProjectPlaceSeen():
            return msgspec.structs.replace(project, places=_with(project, event.path), version=row.version)
        case ProjectPublished():
            return msgspec.structs.replace(project, checkout=event.checkout or project.checkout, version=row.version)
        case ProjectCurated():
            return msgspec.structs.replace(project, curated=event.marks, version=row.version)
        case MemoryAccessed():
            accessed = {**project.accessed_ms, **dict.fromkeys(event.memory_ids, row.at_ms)}
            return msgspec.structs.replace(project, accessed_ms=accessed, version=row.version)
        case _:
            return project


def _with(project: Project, place: str) -> list[str]:
    return [*(one for one in project.places if one != place), place][-_MOST_PLACES:]


PROJECTS: View[Project] = View(
    name="projects",
    version=4,
    shape=Project,
    types=tuple(kind.__name__ for kind in get_args(ProjectEvent)),
    key=lambda row: row.stream.removeprefix("project-"),
    apply=_apply,
)
