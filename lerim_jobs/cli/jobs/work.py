"""`lerim sync`, `maintain` and `ask`: ask for a job, and follow it unless told otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from lerim_jobs.api.lerim import Lerim
from lerim_jobs.api.results import Job
from lerim_jobs.cli.jobs.follow import print_asked, show_result, showing
from lerim_jobs.cli.output import by_option, json_option, note, print_line
from lerim_jobs.cli.state import open_lerim
from lerim_jobs.errors import EXIT_DONE
from lerim_jobs.jobs.line import JOBS
from lerim_jobs.log.projection import fold_all
from lerim_jobs.memory.memory import By
from lerim_jobs.projects import active_projects
from lerim_jobs.providers import is_demo

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
@click.option("--settled", is_flag=True, help="Leave sessions that are still in use, as scheduled syncs do.")
@click.option("--force", is_flag=True, help="Extract again what was extracted before.")
@click.option("--dry-run", is_flag=True, help="Show what would be kept; models are called, nothing is kept.")
@click.option(
    "--estimate", is_flag=True, help="Show sessions, tokens and cost of this sync; nothing is called or kept."
)
@click.option("--yes", is_flag=True, help="Do not ask before the first sync, nor before the offline model writes.")
@_job_options
def sync(
    agent: str | None,
    window: str | None,
    since: str | None,
    until: str | None,
    max_sessions: int | None,
    run_id: str | None,
    settled: bool,
    force: bool,
    dry_run: bool,
    estimate: bool,
    yes: bool,
    no_wait: bool,
    wait_timeout_s: float | None,
    as_json: bool,
) -> int:
    """Read new and grown sessions and turn them into memories."""
    lerim = open_lerim()
    look = partial(
        lerim.sync,
        agents=[one.strip() for one in (agent or "").split(",") if one.strip()],
        window=window,
        since=since,
        until=until,
        max_sessions=max_sessions,
        session_id=run_id,
        settled=settled,
        force=force,
        dry_run=dry_run,
    )
    if not (yes or dry_run or estimate) and not _demo_is_wanted(lerim, asks=not (as_json or no_wait)):
        return EXIT_DONE
    asks = not (yes or as_json or no_wait or dry_run) and sys.stdin.isatty() and _is_first_sync(lerim)
    if estimate or asks:
        with showing() as show:
            job = look(estimate=True, timeout_s=wait_timeout_s, on_progress=show)
        if estimate or not job.result.get("estimate"):
            return _show_estimate(lerim, job, as_json=as_json)
        _show_estimate(lerim, job, as_json=False)
        if job.result["estimate"]["sessions"] and not click.confirm("This is the first sync. Start it?", default=True):
            return EXIT_DONE
    return _run(lerim, look, no_wait=no_wait, timeout_s=wait_timeout_s, as_json=as_json)


def _demo_is_wanted(lerim: Lerim, *, asks: bool) -> bool:
    """The offline model is a toy: before it writes into somebody's repository, he is asked, or told where he cannot be asked."""
    names = [one.name for one in active_projects(lerim.state.store).values()]
    if not names or not is_demo(lerim.state.settings, lerim.state.env):
        return True
    note("The offline model is for demos only: it finds what a few rules find, and misses most of what was decided.")
    if not (asks and sys.stdin.isatty()):
        return True
    return click.confirm(f"Write what it finds into {', '.join(names)}?", default=False)


def _is_first_sync(lerim: Lerim) -> bool:
    """The first one that may extract something."""
    if not active_projects(lerim.state.store):
        return False
    lines = fold_all(lerim.state.store, JOBS).values()
    return not any(line.kind == "sync" and not line.params.get("estimate") for line in lines)


def _show_estimate(lerim: Lerim, job: Job, *, as_json: bool) -> int:
    found = job.result.get("estimate")
    if as_json or not found:
        return show_result(lerim.state, job, as_json=as_json)
    unknown = f"unknown: no price for {', '.join(found['unpriced_models'])}"
    cost = unknown if found["cost_usd"] is None else f"about ${found['cost_usd']:.4f}"
    print_line(
        f"{found['sessions']} sessions in {found['windows']} windows: about {found['model_calls']} calls, "
        f"{found['tokens_in']:,} tokens in, {found['tokens_out']:,} out; cost {cost}"
    )
    budget = lerim.state.settings.budget
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
    lerim = open_lerim()
    clean = partial(lerim.maintain, project=name, force=force, dry_run=dry_run)
    return _run(lerim, clean, no_wait=no_wait, timeout_s=wait_timeout_s, as_json=as_json)


@click.command()
@click.argument("question")
@click.option("--limit", default=12, show_default=True, type=click.IntRange(1, 100), help="Memories to look at.")
@click.option("--project", "name", help="Only this project. [default: the one you are in, else all]")
@click.option("--as-of", help="From what had been said by this day or time (ISO 8601).")
@by_option
@_job_options
def ask(
    question: str,
    limit: int,
    name: str | None,
    as_of: str | None,
    by: By,
    no_wait: bool,
    wait_timeout_s: float | None,
    as_json: bool,
) -> int:
    """Answer QUESTION from the memories, with citations."""
    lerim = open_lerim()
    answer = partial(lerim.ask, question, limit=limit, project=name, as_of=as_of, by=by)
    return _run(lerim, answer, no_wait=no_wait, timeout_s=wait_timeout_s, as_json=as_json)


def _run(lerim: Lerim, ask: Callable[..., Job], *, no_wait: bool, timeout_s: float | None, as_json: bool) -> int:
    """Ask, and follow unless told otherwise."""
    if no_wait:
        return print_asked(ask(wait=False), as_json=as_json)
    with showing() as show:
        job = ask(timeout_s=timeout_s, on_progress=show)
    return show_result(lerim.state, job, as_json=as_json)
