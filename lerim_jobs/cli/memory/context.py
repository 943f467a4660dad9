"""`lerim context`: what a coding agent should know at the start of a session."""

from __future__ import annotations

import click

from lerim_jobs.cli.output import emit, json_option, note, print_line
from lerim_jobs.cli.state import open_lerim

__all__ = ["context"]


@click.command()
@click.option("--project", "name", help="This project. [default: the one you are in]")
@click.option(
    "--budget-tokens", default=1500, show_default=True, type=click.IntRange(100), help="Never print more than this."
)
@json_option
def context(name: str | None, budget_tokens: int, as_json: bool) -> None:
    """Print the most useful memories of a project for a coding agent, as compact markdown.

    Outside of every registered project nothing is printed, so that a session-start hook may always run it.
    """
    found = open_lerim().context(project=name, budget_tokens=budget_tokens)
    if as_json:
        emit(found)
    elif found.markdown:
        print_line(found.markdown.rstrip("\n"))
    elif found.project is None:
        note("This folder is in no registered project: `lerim project add PATH`, or --project NAME.")
    else:
        note(f"There are no memories of {found.project!r} yet: `lerim sync`.")
