"""`lerim jobs`: what was asked, what became of it, event by event."""

from __future__ import annotations

import importlib
from typing import Any

import click
import msgspec

from lerim_jobs.api.state import find_job
from lerim_jobs.cli.output import age, emit, json_option, print_line, table
from lerim_jobs.cli.state import open_lerim, open_state
from lerim_jobs.clock import iso
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.log.codec import Recorded

__all__ = ["jobs"]

_LISTED = (
    *("job_id", "kind", "status", "requested_at", "finished_at", "trace_id", "attempts"),
    *("stages", "settled", "last_error", "error"),
)
"""The fixed fields of a job in `jobs list --json`."""

_ELSEWHERE = {
    **{name: f"lerim_jobs.cli.jobs.control:{name}" for name in ("cancel", "pause", "resume")},
    **{name: f"lerim_jobs.cli.jobs.dead:{name}" for name in ("dead", "retry", "drop")},
    "undo": "lerim_jobs.cli.memory.history:undo_job",
}


class _Jobs(click.Group):
    """Loads what steers jobs when it is used, so that looking at them stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *_ELSEWHERE]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        module, _, name = _ELSEWHERE[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_Jobs)
def jobs() -> None:
    """List, show, watch, steer and undo jobs."""


@jobs.command("list")
@click.option("--status", help="Only jobs with this status.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many at most.")
@json_option
def list_jobs(status: str | None, limit: int, as_json: bool) -> None:
    """Show the newest jobs first."""
    found = open_lerim().jobs(status=status, limit=limit)
    if as_json:
        for job in found:
            emit({name: getattr(job, name) for name in _LISTED})
        return
    rows = [
        (job.job_id, job.kind, job.status, age(job.requested_at), f"{job.settled}/{job.stages}", job.error or "")
        for job in found
    ]
    table(("job", "kind", "status", "asked", "stages", "error"), rows, empty="No job was asked for yet: `lerim sync`.")


@jobs.command()
@click.argument("job_id")
@json_option
def show(job_id: str, as_json: bool) -> None:
    """Show every event of the job JOB_ID."""
    state = open_state()
    find_job(state, job_id)
    for row in state.store.read(job_stream(job_id)):
        _print_event(row, as_json)


@jobs.command()
@click.argument("job_id")
@click.option("--wait-timeout-s", type=float, help="Stop waiting after so many seconds.")
@json_option
def watch(job_id: str, wait_timeout_s: float | None, as_json: bool) -> int:
    """Follow the job JOB_ID to its end."""
    from lerim_jobs.cli.jobs.follow import follow, show_result

    lerim = open_lerim()
    ended = follow(lerim.follow(job_id, timeout_s=wait_timeout_s, worker=False))
    return show_result(lerim.state, ended, as_json=as_json)


def _print_event(row: Recorded, as_json: bool) -> None:
    data: dict[str, Any] = msgspec.json.decode(row.data)
    stage, attempt = data.get("stage"), data.get("attempt")
    if as_json:
        about = {"position": row.position, "type": row.type, "at": iso(row.at_ms)}
        emit({**about, "stage": stage, "attempt": attempt, "data": data})
        return
    rest = {key: value for key, value in data.items() if key not in ("stage", "attempt")}
    shown = msgspec.json.encode(rest).decode()
    where = f"{stage or ''}{f' #{attempt}' if attempt else ''}"
    print_line(f"{iso(row.at_ms)}  {row.type:<16} {where:<28} {shown[:160]}{'…' if len(shown) > 160 else ''}")
