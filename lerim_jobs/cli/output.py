"""How commands talk: results on stdout, everything else on stderr, colour only where somebody looks."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
import msgspec

from lerim_jobs.clock import ms_from_iso, now_ms

__all__ = ["age", "by_option", "coloured", "emit", "json_option", "note", "print_line", "table"]

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """`--json`: nothing but JSON on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")(command)


def by_option(command: F) -> F:
    """`--by`: what an earlier time goes by."""
    told = "What --as-of goes by: when things were said, or when they were kept."
    return click.option("--by", default="said", show_default=True, type=click.Choice(["said", "log"]), help=told)(
        command
    )


def emit(value: Any) -> None:
    """One JSON object on a line of its own."""
    click.echo(msgspec.json.encode(value))


def print_line(text: str = "") -> None:
    """A line of the result."""
    click.echo(text)


def note(text: str) -> None:
    """A line beside the result."""
    click.echo(text, err=True)


def coloured(stream: Any = None) -> bool:
    """Whether colour is welcome there."""
    return (stream or sys.stdout).isatty() and "NO_COLOR" not in os.environ


def table(headings: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """A plain table, or the sentence that says why there is none."""
    lines = [[("" if cell is None else str(cell)) for cell in row] for row in rows]
    if not lines:
        note(empty)
        return
    if coloured():
        _rich_table(headings, lines)
        return
    widths = [max(len(line[column]) for line in [list(headings), *lines]) for column in range(len(headings))]
    for line in [list(headings), *lines]:
        print_line("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def age(at: int | str | None) -> str:
    """`3 min ago`, from milliseconds or ISO 8601."""
    if at is None:
        return "never"
    seconds = max(0, now_ms() - (ms_from_iso(at) if isinstance(at, str) else at)) // 1000
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _rich_table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        drawn.add_column(heading, overflow="fold")
    for line in lines:
        drawn.add_row(*(Text(cell) for cell in line))
    Console().print(drawn)
