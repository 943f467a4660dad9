"""`lerim memory`: what is known, and what proves it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from lerim_jobs.cli.history import history_command, undo_memory
from lerim_jobs.cli.output import age, emit, json_option, note, print_line, table
from lerim_jobs.cli.redact import redact_command
from lerim_jobs.cli.state import State, find_project, open_state
from lerim_jobs.clock import iso
from lerim_jobs.errors import BadInput
from lerim_jobs.log.events import MemoryAccessed
from lerim_jobs.memory.memory import Memory
from lerim_jobs.paths import memory_dir
from lerim_jobs.views.memories import all_memories
from lerim_jobs.views.projection import fold_all
from lerim_jobs.views.projects import PROJECTS, Project, project_stream

__all__ = ["memory", "memory_json"]


@click.group()
def memory() -> None:
    """List, show and search memories; see what happened to them, take it back, remove what they said."""


memory.add_command(history_command)
memory.add_command(undo_memory)
memory.add_command(redact_command)


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
    from lerim_jobs.memory.search import SearchIndex

    state = open_state()
    projects = [find_project(state, name).project_id] if name else None
    if as_of:
        from lerim_jobs.memory.asof import MemoriesThen, as_of_ms

        _print(state, MemoriesThen(state.store, as_of_ms(as_of), project_ids=projects).search(query, limit), as_json)
        return
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
    found = [one for key, one in all_memories(state.store).items() if key.startswith(memory_id)]
    if len(found) != 1:
        many = "several memories begin with" if found else "there is no memory"
        raise BadInput(f"{many} {memory_id!r}: `lerim memory list` shows them")
    one = found[0]
    state.store.append(project_stream(one.project_id), [MemoryAccessed(one.project_id, [one.memory_id])])
    projects = fold_all(state.store, PROJECTS)
    about = memory_json(one, projects)
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


def _known(state: State, project_id: str | None, as_of: str | None) -> dict[str, Memory]:
    """The memories now, or as they were."""
    if not as_of:
        return all_memories(state.store, project_id=project_id)
    from lerim_jobs.memory.asof import as_of_ms, memories_at

    return memories_at(state.store, as_of_ms(as_of), project_ids=[project_id] if project_id else None)


def memory_json(one: Memory, projects: dict[str, Project]) -> dict[str, Any]:
    """The fixed fields of a memory in `--json` output."""
    project = projects.get(one.project_id)
    file = project.files.get(one.memory_id) if project else None
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
        "path": f"{memory_dir_of(project)}/{file.path}" if project and file else None,
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
    projects = fold_all(state.store, PROJECTS)
    found = [memory_json(one, projects) | {"updated_ms": one.updated_ms} for one in memories]
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
