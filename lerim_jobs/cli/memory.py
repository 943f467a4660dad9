"""`lerim memory`: what is known, and what proves it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from lerim_jobs.cli import by_hand, transfer
from lerim_jobs.cli.output import age, emit, json_option, note, print_line, table
from lerim_jobs.cli.state import State, find_memory, find_project, open_state
from lerim_jobs.clock import iso
from lerim_jobs.log.events import MemoryAccessed
from lerim_jobs.memory.memory import Memory
from lerim_jobs.paths import memory_dir
from lerim_jobs.views.files import FileState, files_of
from lerim_jobs.views.memories import all_memories
from lerim_jobs.views.projection import fold_all
from lerim_jobs.views.projects import PROJECTS, Project, project_stream

__all__ = ["about_memory", "memory", "memory_json"]


@click.group()
def memory() -> None:
    """List, show and search memories; add, change, move them by hand."""


for _command in (*by_hand.COMMANDS, *transfer.COMMANDS):
    memory.add_command(_command)


@memory.command("list")
@click.option("--project", "name", help="Only this project.")
@click.option("--kind", help="decision, insight, procedure, friction, pitfall, preference or summary.")
@click.option("--all", "everything", is_flag=True, help="Archived and merged ones too.")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1), help="How many at most.")
@json_option
def list_memories(name: str | None, kind: str | None, everything: bool, limit: int, as_json: bool) -> None:
    """Show memories, the newest first."""
    state = open_state()
    project_id = find_project(state, name).project_id if name else None
    found = [
        one
        for one in all_memories(state.store, project_id=project_id).values()
        if (everything or one.status == "active") and kind in (None, one.kind)
    ]
    _print(state, sorted(found, key=lambda one: (-one.updated_ms, one.memory_id))[:limit], as_json)


@memory.command()
@click.argument("query")
@click.option("--project", "name", help="Only this project.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many at most.")
@json_option
def search(query: str, name: str | None, limit: int, as_json: bool) -> None:
    """Find memories by their words, the best match first."""
    from lerim_jobs.memory.search import SearchIndex

    state = open_state()
    projects = [find_project(state, name).project_id] if name else None
    memories = all_memories(state.store)
    index = SearchIndex(state.home.search)
    index.catch_up(memories.values(), position=state.store.position())
    hits = index.search(query, project_ids=projects, limit=limit)
    _print(state, [memories[hit.memory_id] for hit in hits if hit.memory_id in memories], as_json)


@memory.command()
@click.argument("memory_id")
@json_option
def show(memory_id: str, as_json: bool) -> None:
    """Show the memory MEMORY_ID and where it came from."""
    state = open_state()
    one = find_memory(state, memory_id)
    state.store.append(project_stream(one.project_id), [MemoryAccessed(one.project_id, [one.memory_id])])
    about = about_memory(state, one)
    if as_json:
        emit(about)
        return
    print_line(f"{one.title}\n{'-' * len(one.title)}\n{one.body}\n")
    for quote in one.quotes:
        when = iso(quote.at_ms) or "at an unknown time"
        print_line(
            f'"{quote.text}"\n    {quote.speaker}, {when}, turn {quote.turn} of {quote.agent} session {quote.session_id}\n'
        )
    for key in (
        "memory_id",
        "kind",
        "status",
        "confidence",
        "tags",
        "project",
        "path",
        "job_id",
        "trace_id",
        "updated_at",
    ):
        print_line(f"{key:<11} {about[key]}")
    if one.model:
        print_line(f"{'model':<11} {one.model}")
    if one.reason:
        print_line(f"{'reason':<11} {one.reason}")


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
