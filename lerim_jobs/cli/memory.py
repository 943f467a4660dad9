"""`lerim memory`: what is known, and what proves it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from lerim_jobs.cli import by_hand, transfer
from lerim_jobs.cli.history import history_command, undo_memory
from lerim_jobs.cli.memory_show import show
from lerim_jobs.cli.output import age, emit, json_option, note, table
from lerim_jobs.cli.redact import redact_command
from lerim_jobs.cli.state import State, find_project, open_state
from lerim_jobs.clock import iso
from lerim_jobs.memory.memory import Memory
from lerim_jobs.paths import memory_dir
from lerim_jobs.views.files import FileState, files_of
from lerim_jobs.views.memories import all_memories
from lerim_jobs.views.projection import fold_all
from lerim_jobs.views.projects import PROJECTS, Project

__all__ = ["about_memory", "memory", "memory_json"]


@click.group()
def memory() -> None:
    """List, show and search memories; change them by hand; see what happened to them, take it back, remove it."""


for _command in (show, history_command, undo_memory, redact_command, *by_hand.COMMANDS, *transfer.COMMANDS):
    memory.add_command(_command)


@memory.command("list")
@click.option("--project", "name", help="Only this project.")
@click.option("--kind", help="decision, insight, procedure, friction, pitfall, preference or summary.")
@click.option("--all", "everything", is_flag=True, help="Archived, merged, undone and redacted ones too.")
@click.option("--as-of", help="As they were at this time (ISO 8601).")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1), help="How many at most.")
@json_option
def list_memories(
    name: str | None, kind: str | None, everything: bool, as_of: str | None, limit: int, as_json: bool
) -> None:
    """Show memories, the newest first."""
    state = open_state()
    project_id = find_project(state, name).project_id if name else None
    found = [
        one
        for one in _known(state, project_id, as_of).values()
        if (everything or one.status == "active") and kind in (None, one.kind)
    ]
    _print(state, sorted(found, key=lambda one: (-one.updated_ms, one.memory_id))[:limit], as_json)


@memory.command()
@click.argument("query")
@click.option("--project", "name", help="Only this project.")
@click.option("--as-of", help="In the memories as they were at this time (ISO 8601).")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many at most.")
@json_option
def search(query: str, name: str | None, as_of: str | None, limit: int, as_json: bool) -> None:
    """Find memories by their words, the best match first."""
    from lerim_jobs.memory.search import SearchIndex, search_memories

    state = open_state()
    projects = [find_project(state, name).project_id] if name else None
    if as_of:
        from lerim_jobs.memory.asof import MemoriesThen, as_of_ms

        _print(state, MemoriesThen(state.store, as_of_ms(as_of), project_ids=projects).search(query, limit), as_json)
        return
    index = SearchIndex(state.home.search, state.store)
    index.catch_up()
    _print(state, search_memories(index, state.store, query, project_ids=projects, limit=limit), as_json)


def _known(state: State, project_id: str | None, as_of: str | None) -> dict[str, Memory]:
    """The memories now, or as they were."""
    if not as_of:
        return all_memories(state.store, project_id=project_id)
    from lerim_jobs.memory.asof import as_of_ms, memories_at

    return memories_at(state.store, as_of_ms(as_of), project_ids=[project_id] if project_id else None)


def about_memory(state: State, one: Memory) -> dict[str, Any]:
    """`memory_json` of one memory, with its file as it is now."""
    return memory_json(one, fold_all(state.store, PROJECTS), files_of(state.store, [one.memory_id]))


def memory_json(one: Memory, projects: dict[str, Project], files: dict[str, FileState]) -> dict[str, Any]:
    """The fixed fields of a memory in `--json` output."""
    project = projects.get(one.project_id)
    file = files.get(one.memory_id)
    return {
        "memory_id": one.memory_id,
        "kind": one.kind,
        "title": one.title,
        "body": one.body,
        "confidence": one.confidence,
        "tags": one.tags,
        "project": project.name if project else None,
        "session_id": one.session_id,
        "job_id": one.job_id,
        "trace_id": one.trace_id,
        "span_id": one.span_id,
        "quote": one.quotes[0].text if one.quotes else None,
        "path": f"{memory_dir_of(project)}/{file.path}" if project and file and file.path else None,
        "status": one.status,
        "updated_at": iso(one.updated_ms),
        "agent": one.agent,
        "model": one.model,
        "version": one.version,
    }


def memory_dir_of(project: Project) -> str:
    """The project's memory folder."""
    from pathlib import Path

    return str(memory_dir(Path(project.path)))


def _print(state: State, memories: Iterable[Memory], as_json: bool) -> None:
    memories, projects = list(memories), fold_all(state.store, PROJECTS)
    files = files_of(state.store, [one.memory_id for one in memories])
    found = [memory_json(one, projects, files) | {"updated_ms": one.updated_ms} for one in memories]
    if as_json:
        for one in found:
            emit({key: value for key, value in one.items() if key != "updated_ms"})
        return
    rows = [
        (
            one["memory_id"][:8],
            one["kind"],
            one["project"],
            f"{one['confidence']:.2f}",
            age(one["updated_ms"]),
            one["title"],
        )
        for one in found
    ]
    table(("id", "kind", "project", "conf.", "changed", "title"), rows, empty="No memory was found.")
    if rows:
        note("`lerim memory show ID` tells where one came from.")
