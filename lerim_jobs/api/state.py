"""What the service works with, opened once: environment, settings, state folder and log; and finding things in them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lerim_jobs import config
from lerim_jobs.config import Settings
from lerim_jobs.errors import BadInput
from lerim_jobs.jobs.line import JOBS, JobLine
from lerim_jobs.log.projection import find
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.stored import find_ids, load_memories
from lerim_jobs.paths import Home
from lerim_jobs.paths import home as home_of
from lerim_jobs.projects import Project, active_projects

if TYPE_CHECKING:
    from lerim_jobs.tracing.skeleton.record import SpanRecord

__all__ = [
    "State",
    "find_job",
    "find_memory",
    "find_project",
    "open_state",
    "project_here",
    "project_or_here",
    "spans_of",
]

_log = logging.getLogger("lerim_jobs.api")


class State(NamedTuple):
    """An opened state folder.

    `here` is the folder things are about unless a project is named, None the current one; `tell` takes lines for whoever
    looks on; `by` is who asks, as the log keeps it.
    """

    env: dict[str, str]
    settings: Settings
    home: Home
    store: SqliteStore
    here: Path | None
    tell: Callable[[str], None]
    by: str


def open_state(
    env: Mapping[str, str] | None = None,
    *,
    here: Path | None = None,
    tell: Callable[[str], None] = _log.warning,
    by: str = "api",
) -> State:
    """Read the settings, make the folder when it is missing, open the log. Raises ConfigError, StoreUnavailable."""
    full = config.environment(env)
    settings = config.load(full)
    home = home_of(full).ensure()
    return State(full, settings, home, SqliteStore(home.log), here, tell, by)


def find_project(state: State, name: str) -> Project:
    """A registered project by name or folder. Raises BadInput naming those there are."""
    projects = active_projects(state.store)
    wanted = str(Path(name).expanduser().resolve())
    for project in projects.values():
        if name in (project.name, project.project_id) or wanted == project.path:
            return project
    known = ", ".join(project.name for project in projects.values()) or "none: `lerim project add PATH`"
    raise BadInput(f"there is no project {name!r}; there are {known}")


def find_memory(state: State, memory_id: str) -> Memory:
    """The memory whose id is this, or the only one whose id begins so. Raises BadInput."""
    found = find_ids(state.store, memory_id)
    if len(found) != 1:
        many = "several memories begin with" if found else "there is no memory"
        raise BadInput(f"{many} {memory_id!r}: `lerim memory list --all` shows them")
    return load_memories(state.store, found)[0]


def find_job(state: State, job_id: str) -> JobLine:
    """The job's line. Raises BadInput for an id nobody knows."""
    line = find(state.store, JOBS, job_id)
    if line is None:
        raise BadInput(f"there is no job {job_id!r}: `lerim jobs list` shows them")
    return line


def spans_of(state: State, job_id: str, trace_id: str) -> list[SpanRecord]:
    """The skeleton of a job's trace from the log, and what was recorded below it on this machine."""
    from lerim_jobs.jobs.closing import traced_events
    from lerim_jobs.tracing.local.store import SpanStore
    from lerim_jobs.tracing.local.tree import merge
    from lerim_jobs.tracing.skeleton.spans import skeleton

    bones = skeleton(traced_events(state.store, job_id))
    return merge(bones, SpanStore(state.home.traces).of_trace(trace_id))


def project_or_here(state: State, name: str | None) -> Project:
    """The named project, or the one `here` is in. Raises BadInput."""
    found = find_project(state, name) if name else project_here(state)
    if found is None:
        raise BadInput("the current folder is in no registered project: name one with --project")
    return found


def project_here(state: State) -> Project | None:
    """The registered project `here` is in, the innermost one, also through a worktree of git."""
    from lerim_jobs.sessions.projects import Folders

    projects = active_projects(state.store)
    found = Folders(projects.values()).project_of(str((state.here or Path.cwd()).resolve()))
    return projects[found] if found else None
