"""Reading memories: lists, search, one with where it came from, and what an agent should know at a session's start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from msgspec.structs import asdict

from lerim_jobs.api import results
from lerim_jobs.api.state import State, find_memory, find_project, project_here
from lerim_jobs.clock import iso, now_ms
from lerim_jobs.log.events import MemoryAccessed
from lerim_jobs.log.projection import fold_all
from lerim_jobs.memory.files.states import FileState, files_of
from lerim_jobs.memory.memory import By, Memory
from lerim_jobs.memory.search.index import SearchIndex, newest_memories, search_memories
from lerim_jobs.paths import memory_dir
from lerim_jobs.projects import PROJECTS, Project, project_stream

__all__ = ["as_shown", "context", "listed", "listed_then", "search", "search_then", "show"]


def listed(
    state: State, index: SearchIndex, *, project: str | None, kind: str | None, everything: bool, limit: int
) -> list[results.Memory]:
    """What was said last first; only what is listed is loaded."""
    index.catch_up()
    projects = _projects(state, project)
    found = newest_memories(index, state.store, project_ids=projects, kind=kind, everything=everything, limit=limit)
    return as_shown(state, found)


def listed_then(
    state: State, *, project: str | None, kind: str | None, everything: bool, as_of: str, by: By, limit: int
) -> list[results.Memory]:
    """`listed`, of the memories as they were."""
    from lerim_jobs.memory.search.asof import as_of_ms, memories_at

    then = memories_at(state.store, as_of_ms(as_of), by=by, project_ids=_projects(state, project)).values()
    found = [one for one in then if (everything or one.status == "active") and kind in (None, one.kind)]
    return as_shown(state, sorted(found, key=lambda one: (-one.accessed_ms, one.memory_id))[:limit])


def search(state: State, index: SearchIndex, query: str, *, project: str | None, limit: int) -> list[results.Memory]:
    """The best match first."""
    projects = _projects(state, project)
    index.catch_up()
    return as_shown(state, search_memories(index, state.store, query, project_ids=projects, limit=limit))


def search_then(
    state: State, query: str, *, project: str | None, as_of: str, by: By, limit: int
) -> list[results.Memory]:
    """`search` in the memories as they were."""
    from lerim_jobs.memory.search.asof import MemoriesThen, as_of_ms

    projects = _projects(state, project)
    then = MemoriesThen(state.store, as_of_ms(as_of), by=by, project_ids=projects)
    return as_shown(state, then.search(query, limit))


def show(state: State, memory_id: str) -> results.ShownMemory:
    """Looking at a memory is using it: its decay starts anew."""
    from lerim_jobs.memory.history.provenance import origins

    one = find_memory(state, memory_id)
    state.store.append(project_stream(one.project_id), [MemoryAccessed(one.project_id, [one.memory_id])])
    (shown,) = as_shown(state, [one])
    return results.ShownMemory(
        **asdict(shown),
        reason=one.reason,
        by_hand=one.by_hand,
        merged_into=one.merged_into,
        origins=origins(state.store, one),
    )


def context(state: State, index: SearchIndex, *, project: str | None, budget_tokens: int) -> results.Context:
    """Nothing outside of every project, so that whoever starts a session may always ask."""
    from lerim_jobs.memory.search.context import compose, ranked

    about = find_project(state, project) if project else project_here(state)
    if about is None:
        return results.Context(None)
    index.catch_up()
    useful = ranked(index, about, now_ms=now_ms(), settings=state.settings.decay)
    if not useful:
        return results.Context(about.name)
    found = compose(state.store, about, useful, budget_tokens=budget_tokens)
    return results.Context(about.name, found.markdown, found.tokens, found.memories, found.left_out)


def as_shown(state: State, memories: Iterable[Memory]) -> list[results.Memory]:
    """The memories in this order, each with its project and its file as they are now."""
    memories, projects = list(memories), fold_all(state.store, PROJECTS)
    files = files_of(state.store, [one.memory_id for one in memories])
    return [_shown(one, projects.get(one.project_id), files) for one in memories]


def _shown(one: Memory, project: Project | None, files: Mapping[str, FileState]) -> results.Memory:
    file = files.get(one.memory_id)
    return results.Memory(
        memory_id=one.memory_id,
        kind=one.kind,
        title=one.title,
        body=one.body,
        confidence=one.confidence,
        tags=one.tags,
        project=project.name if project else None,
        session_id=one.session_id,
        job_id=one.job_id,
        trace_id=one.trace_id,
        span_id=one.span_id,
        quote=one.quotes[0].text if one.quotes else None,
        path=f"{memory_dir(Path(project.path))}/{file.path}" if project and file and file.is_here else None,
        status=one.status,
        superseded_by=one.superseded_by,
        updated_at=iso(one.updated_ms),
        said_at=iso(one.said_ms),
        kept_at=iso(one.created_ms),
        agent=one.agent,
        model=one.model,
        version=one.version,
    )


def _projects(state: State, project: str | None) -> list[str] | None:
    return [find_project(state, project).project_id] if project else None
