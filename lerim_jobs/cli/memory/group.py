"""`lerim memory`: what is known, and what proves it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from lerim_jobs.cli.memory import by_hand, transfer
from lerim_jobs.cli.memory.history import history_command, undo_memory
from lerim_jobs.cli.memory.redact import redact_command
from lerim_jobs.cli.memory.show import show
from lerim_jobs.cli.memory.shown import memory_json
from lerim_jobs.cli.output import age, emit, json_option, note, table
from lerim_jobs.cli.state import State, find_project, open_state
from lerim_jobs.log.projection import fold_all
from lerim_jobs.memory.files.states import files_of
from lerim_jobs.memory.memory import Memory
from lerim_jobs.projects import PROJECTS

if TYPE_CHECKING:
    from lerim_jobs.memory.search.index import SearchIndex

__all__ = ["memory"]


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
    from lerim_jobs.memory.search.index import newest_memories

    state = open_state()
    projects = [find_project(state, name).project_id] if name else None
    if as_of:
        then = _then(state, as_of, projects)
        wanted = (one for one in then if (everything or one.status == "active") and kind in (None, one.kind))
        found = sorted(wanted, key=lambda one: (-one.updated_ms, one.memory_id))[:limit]
    else:
        found = newest_memories(
            _index(state), state.store, project_ids=projects, kind=kind, everything=everything, limit=limit
        )
    _print(state, found, as_json)


@memory.command()
@click.argument("query")
@click.option("--project", "name", help="Only this project.")
@click.option("--as-of", help="In the memories as they were at this time (ISO 8601).")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many at most.")
@json_option
def search(query: str, name: str | None, as_of: str | None, limit: int, as_json: bool) -> None:
    """Find memories by their words, the best match first."""
    from lerim_jobs.memory.search.index import search_memories

    state = open_state()
    projects = [find_project(state, name).project_id] if name else None
    if as_of:
        from lerim_jobs.memory.search.asof import MemoriesThen, as_of_ms

        _print(state, MemoriesThen(state.store, as_of_ms(as_of), project_ids=projects).search(query, limit), as_json)
        return
    _print(state, search_memories(_index(state), state.store, query, project_ids=projects, limit=limit), as_json)


def _index(state: State) -> SearchIndex:
    from lerim_jobs.memory.search.index import SearchIndex

    index = SearchIndex(state.home.search, state.store)
    index.catch_up()
    return index


def _then(state: State, as_of: str, projects: list[str] | None) -> Iterable[Memory]:
    from lerim_jobs.memory.search.asof import as_of_ms, memories_at

    return memories_at(state.store, as_of_ms(as_of), project_ids=projects).values()


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
