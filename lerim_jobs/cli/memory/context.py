"""`lerim context`: what a coding agent should know at the start of a session."""

from __future__ import annotations

import click
import msgspec

from lerim_jobs.cli.output import emit, json_option, note, print_line
from lerim_jobs.cli.state import find_project, open_state, project_here
from lerim_jobs.clock import now_ms

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
    from lerim_jobs.memory.search.context import Context, compose, ranked
    from lerim_jobs.memory.search.index import SearchIndex

    state = open_state()
    project = find_project(state, name) if name else project_here(state)
    found = Context("", 0, [], 0)
    if project is not None:
        index = SearchIndex(state.home.search, state.store)
        index.catch_up()
        useful = ranked(index, project, now_ms=now_ms(), settings=state.settings.decay)
        found = compose(state.store, project, useful, budget_tokens=budget_tokens) if useful else found
    if as_json:
        emit({"project": project.name if project else None, **msgspec.to_builtins(found)})
    elif found.markdown:
        print_line(found.markdown.rstrip("\n"))
    elif project is None:
        note("This folder is in no registered project: `lerim project add PATH`, or --project NAME.")
    else:
        note(f"There are no memories of {project.name!r} yet: `lerim sync`.")
