"""`lerim memory`: what is known, and what proves it."""

from __future__ import annotations

import click

from lerim_jobs.api.results import Memory
from lerim_jobs.cli.memory import by_hand, transfer
from lerim_jobs.cli.memory.history import history_command, undo_memory
from lerim_jobs.cli.memory.redact import redact_command
from lerim_jobs.cli.memory.show import show
from lerim_jobs.cli.output import age, emit, json_option, note, table
from lerim_jobs.cli.state import open_lerim

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
    lerim = open_lerim()
    _print(lerim.memories(project=name, kind=kind, everything=everything, as_of=as_of, limit=limit), as_json)


@memory.command()
@click.argument("query")
@click.option("--project", "name", help="Only this project.")
@click.option("--as-of", help="In the memories as they were at this time (ISO 8601).")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many at most.")
@json_option
def search(query: str, name: str | None, as_of: str | None, limit: int, as_json: bool) -> None:
    """Find memories by their words, the best match first."""
    _print(open_lerim().search(query, project=name, as_of=as_of, limit=limit), as_json)


def _print(memories: list[Memory], as_json: bool) -> None:
    if as_json:
        for one in memories:
            emit(one)
        return
    rows = [
        (one.memory_id[:8], one.kind, one.project, f"{one.confidence:.2f}", age(one.updated_at), one.title)
        for one in memories
    ]
    table(("id", "kind", "project", "conf.", "changed", "title"), rows, empty="No memory was found.")
    if rows:
        note("`lerim memory show ID` tells where one came from.")
