"""`lerim memory`: what is known, and what proves it."""

from __future__ import annotations

import click

from lerim_jobs.api.results import Memory
from lerim_jobs.cli.memory import by_hand, transfer
from lerim_jobs.cli.memory.history import history_command, undo_memory
from lerim_jobs.cli.memory.redact import redact_command
from lerim_jobs.cli.memory.show import show
from lerim_jobs.cli.output import by_option, emit, json_option, note, table
from lerim_jobs.cli.state import open_lerim
from lerim_jobs.clock import day, ms_from_iso
from lerim_jobs.memory.memory import By

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
@click.option("--as-of", help="What had been said by this day or time (ISO 8601).")
@by_option
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1), help="How many at most.")
@json_option
def list_memories(
    name: str | None, kind: str | None, everything: bool, as_of: str | None, by: By, limit: int, as_json: bool
) -> None:
    """Show memories, what was said last first."""
    lerim = open_lerim()
    found = lerim.memories(project=name, kind=kind, everything=everything, as_of=as_of, by=by, limit=limit)
    _print(found, as_json, everything=everything)


@memory.command()
@click.argument("query")
@click.option("--project", "name", help="Only this project.")
@click.option("--as-of", help="In what had been said by this day or time (ISO 8601).")
@by_option
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many at most.")
@json_option
def search(query: str, name: str | None, as_of: str | None, by: By, limit: int, as_json: bool) -> None:
    """Find memories by their words, the best match first."""
    _print(open_lerim().search(query, project=name, as_of=as_of, by=by, limit=limit), as_json)


def _status(one: Memory) -> str:
    return "superseded" if one.superseded_by else one.status


def _said(one: Memory) -> str:
    """The day it was said; in brackets the day it was kept, where nobody knows when it was said."""
    return day(ms_from_iso(one.said_at)) if one.said_at else f"({day(ms_from_iso(one.kept_at))})" if one.kept_at else ""


def _print(memories: list[Memory], as_json: bool, *, everything: bool = False) -> None:
    if as_json:
        for one in memories:
            emit(one)
        return
    told = ["status"] if everything else []
    rows = [
        (
            one.memory_id[:8],
            *(_status(one) for _ in told),
            one.kind,
            one.project,
            f"{one.confidence:.2f}",
            _said(one),
            one.title,
        )
        for one in memories
    ]
    table(("id", *told, "kind", "project", "conf.", "said", "title"), rows, empty="No memory was found.")
    if rows:
        note("`lerim memory show ID` tells where one came from.")
