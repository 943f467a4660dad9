"""`lerim sync`, `maintain` and `ask`: ask for a job, and follow it unless told otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from lerim_jobs.cli.jobs.asking import finish_job, run_job, sync_params
from lerim_jobs.cli.output import json_option, note, print_line
from lerim_jobs.cli.state import State, find_project, open_state, project_here
from lerim_jobs.errors import EXIT_DONE, BadInput
from lerim_jobs.jobs.line import JOBS, JobLine
from lerim_jobs.log.projection import fold_all
from lerim_jobs.projects import active_projects

__all__ = ["ask", "maintain", "sync"]

F = TypeVar("F", bound=Callable[..., Any])


def _job_options(command: F) -> F:
    for option in (
        json_option,
        click.option("--wait-timeout-s", type=float, help="Stop waiting after so many seconds; the job goes on."),
        click.option("--no-wait", is_flag=True, help="Print the job's id and return at once."),
    ):
        command = option(command)
    return command


@click.command()
@click.option("--agent", help="Only sessions of these agents, comma-separated.")
@click.option("--window", help="How far back: 30s, 2m, 1h, 7d or all. [default: 7d]")
@click.option("--since", help="Only sessions active since this time (ISO 8601); wins over --window.")
@click.option("--until", help="Only sessions last active before this time (ISO 8601).")
@click.option("--max-sessions", type=click.IntRange(1), help="Extract at most so many sessions. [default: 50]")
@click.option("--run-id", help="Only the session with this id, or whose id begins so.")
@click.option("--force", is_flag=True, help="Extract again what was extracted before.")
@click.option("--dry-run", is_flag=True, help="Show what would be kept; models are called, nothing is kept.")
@click.option(
    "--estimate", is_flag=True, help="Show sessions, tokens and cost of this sync; nothing is called or kept."
)
@click.option("--yes", is_flag=True, help="Do not ask before the first sync.")
@_job_options
def sync(
    agent: str | None,
    window: str | None,
    since: str | None,
    until: str | None,
    max_sessions: int | None,
    run_id: str | None,
    force: bool,
    dry_run: bool,
    estimate: bool,
    yes: bool,
    no_wait: bool,
    wait_timeout_s: float | None,
    as_json: bool,
) -> int:
    """Read new and grown sessions and turn them into memories."""
    state = open_state()
    params = sync_params(state, agent=agent, window=window, since=since, until=until)
    params |= {"session_id": run_id, "force": force, "dry_run": dry_run}
    if max_sessions:
        params["max_sessions"] = max_sessions
    if not active_projects(state.store):
        note("No project is registered, so nothing will be extracted: `lerim project add PATH`.")
    asks = not (yes or as_json or no_wait or dry_run) and sys.stdin.isatty() and _is_first_sync(state)
    if estimate or asks:
        line = finish_job(state, "sync", {**params, "estimate": True}, timeout_s=wait_timeout_s)
        if estimate or not line.result.get("estimate"):
            return _show_estimate(state, line, as_json=as_json)
        _show_estimate(state, line, as_json=False)
        if line.result["estimate"]["sessions"] and not click.confirm("This is the first sync. Start it?", default=True):
            return EXIT_DONE
    return run_job(state, "sync", params, no_wait=no_wait, timeout_s=wait_timeout_s, as_json=as_json)


def _is_first_sync(state: State) -> bool:
    lines = fold_all(state.store, JOBS).values()
    return not any(line.kind == "sync" and not line.params.get("estimate") for line in lines)


def _show_estimate(state: State, line: JobLine, *, as_json: bool) -> int:
    from lerim_jobs.cli.jobs.follow import show_result

    found = line.result.get("estimate")
    if as_json or not found:
        return show_result(state, line, as_json=as_json)
    unknown = f"unknown: no price for {', '.join(found['unpriced_models'])}"
    cost = unknown if found["cost_usd"] is None else f"about ${found['cost_usd']:.4f}"
    print_line(
        f"{found['sessions']} sessions in {found['windows']} windows: about {found['model_calls']} calls, "
        f"{found['tokens_in']:,} tokens in, {found['tokens_out']:,} out; cost {cost}"
    )
    budget = state.settings.budget
    print_line(f"Caps: ${budget.per_job_usd:g} a job, ${budget.per_day_usd:g} a day ([budget] in config.toml).")
    return EXIT_DONE


@click.command()
@click.option("--project", "name", help="Only this project. [default: all]")
@click.option("--force", is_flag=True, help="Look at memories again that have not changed since the last time.")
@click.option("--dry-run", is_flag=True, help="Show the plan and change nothing.")
@_job_options
def maintain(
    name: str | None, force: bool, dry_run: bool, no_wait: bool, wait_timeout_s: float | None, as_json: bool
) -> int:
    """Merge duplicates and archive what faded."""
    state = open_state()
    projects = [find_project(state, name).project_id] if name else list(active_projects(state.store))
    if not projects:
        raise BadInput("no project is registered: `lerim project add PATH`")
    params = {"project_ids": projects, "force": force, "dry_run": dry_run}
    return run_job(
        state, "maintain", params, projects=projects, no_wait=no_wait, timeout_s=wait_timeout_s, as_json=as_json
    )


@click.command()
@click.argument("question")
@click.option("--limit", default=12, show_default=True, type=click.IntRange(1, 100), help="Memories to look at.")
@click.option("--project", "name", help="Only this project. [default: the one you are in, else all]")
@click.option("--as-of", help="From the memories as they were at this time (ISO 8601).")
@_job_options
def ask(
    question: str,
    limit: int,
    name: str | None,
    as_of: str | None,
    no_wait: bool,
    wait_timeout_s: float | None,
    as_json: bool,
) -> int:
    """Answer QUESTION from the memories, with citations."""
    from lerim_jobs.sessions.secrets import redact

    if not question.strip():
        raise BadInput("the question is empty")
    state = open_state()
    project = find_project(state, name) if name else project_here(state)
    params = {"question": redact(question)[0], "limit": limit, "project_id": project.project_id if project else None}
    if as_of:
        from lerim_jobs.memory.search.asof import as_of_ms

        params["as_of_ms"] = as_of_ms(as_of)
    return run_job(state, "ask", params, no_wait=no_wait, timeout_s=wait_timeout_s, as_json=as_json)
