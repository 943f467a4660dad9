"""`lerim jobs dead`, `retry` and `drop`: what was given up, with its evidence, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lerim_jobs import ids
from lerim_jobs.api.state import State, find_job, find_project
from lerim_jobs.cli.output import age, emit, json_option, print_line, table
from lerim_jobs.cli.state import open_state
from lerim_jobs.clock import iso
from lerim_jobs.errors import BadInput
from lerim_jobs.jobs import dead as quarantine
from lerim_jobs.jobs.dead import DeadSession
from lerim_jobs.projects import active_projects
from lerim_jobs.providers import check_models

__all__ = ["dead", "drop", "retry"]

F = TypeVar("F", bound=Callable[..., Any])


def _which(command: F) -> F:
    for option in (
        json_option,
        click.option("--project", "name", help="Only sessions of this project."),
        click.option("--all", "everything", is_flag=True, help="Of every job."),
        click.argument("job_id", required=False),
    ):
        command = option(command)
    return command


@click.command()
@click.option("--project", "name", help="Only sessions of this project.")
@json_option
def dead(name: str | None, as_json: bool) -> None:
    """Show what was given up and why: stages of running jobs, and sessions that ended jobs lost."""
    from lerim_jobs.cli.jobs.evidence import evidence

    state = open_state()
    project_id = find_project(state, name).project_id if name else None
    found = [] if name else [_stage_line(one) for one in quarantine.dead_stages(state.store)]
    found += [_session_line(state, one) for one in quarantine.dead_sessions(state.store, project_id=project_id)]
    if as_json:
        for line in found:
            emit({**line, "evidence": evidence(state, line["job_id"], line["stage"])})
        return
    rows = [
        (
            line["job_id"],
            line["stage"],
            line["session_id"] or "",
            line["turns"] or "",
            age(line["at_ms"]),
            line["reason"],
        )
        for line in found
    ]
    table(("job", "stage", "session", "turns", "given up", "reason"), rows, empty="Nothing is dead.")
    if found and not as_json:
        print_line(
            "`lerim jobs retry JOB` gives another chance, `lerim jobs drop JOB` accepts the loss; both take --all."
        )


@click.command()
@_which
@click.option("--no-wait", is_flag=True, help="Return at once, do not follow the new sync.")
@click.option("--wait-timeout-s", type=float, help="Stop waiting after so many seconds; the job goes on.")
def retry(
    job_id: str | None, everything: bool, name: str | None, no_wait: bool, wait_timeout_s: float | None, as_json: bool
) -> int:
    """Give what JOB_ID lost another chance: its dead stages while it runs, else its sessions, in a sync of their own."""
    state = open_state()
    if job_id and _runs(state, job_id):
        return _revive(state, job_id, as_json=as_json)
    lost = _lost(state, job_id, everything, name)
    return _sync_again(state, lost, no_wait=no_wait, timeout_s=wait_timeout_s, as_json=as_json)


@click.command()
@_which
@click.option("--reason", default="the loss was accepted", show_default=True, help="Kept in the log.")
def drop(job_id: str | None, everything: bool, name: str | None, reason: str, as_json: bool) -> None:
    """Accept that the sessions JOB_ID lost stay unextracted. They stay in the accounts, as dropped."""
    state = open_state()
    if job_id and _runs(state, job_id):
        raise BadInput(
            f"job {job_id!r} still runs: drop what it lost when it has ended, or `lerim jobs cancel {job_id}`"
        )
    lost = _lost(state, job_id, everything, name)
    quarantine.drop(state.store, lost, reason)
    if as_json:
        emit({"dropped": [_session_line(state, one) for one in lost]})
    else:
        print_line(f"{len(lost)} losses are accepted: {reason}.")


def _runs(state: State, job_id: str) -> bool:
    return find_job(state, job_id).finished_ms is None


def _lost(state: State, job_id: str | None, everything: bool, name: str | None) -> list[DeadSession]:
    if bool(job_id) == everything:
        raise BadInput("name a job, or say --all")
    project_id = find_project(state, name).project_id if name else None
    lost = quarantine.dead_sessions(state.store, job_id=job_id, project_id=project_id)
    if not lost:
        raise BadInput(f"job {job_id!r} lost no session" if job_id else "no session is dead")
    return lost


def _revive(state: State, job_id: str, *, as_json: bool) -> int:
    from lerim_jobs.api.asking import tell_workers

    rows = quarantine.revive(state.store, job_id)
    tell_workers(state, rows)
    names = [row.stage for row in rows]
    if as_json:
        emit({"job_id": job_id, "revived": names})
    else:
        print_line(f"{', '.join(names)} of {job_id} will be tried again.")
    return 0


def _sync_again(state: State, lost: list[DeadSession], *, no_wait: bool, timeout_s: float | None, as_json: bool) -> int:
    from lerim_jobs.api.asking import attended, new_request, send_hints, tell_workers
    from lerim_jobs.cli.jobs.follow import follow, show_result

    check_models(state.settings, state.env)
    streams = sorted({one.session.stream for one in lost})
    event = new_request(state, "sync", {"streams": streams}, scope="retry")
    new_id = ids.job_id("sync")
    if no_wait:
        tell_workers(state, quarantine.retry(state.store, lost, new_id, event).freed)
        emit({"job_id": new_id}) if as_json else print_line(new_id)
        return 0

    def begin(url: str) -> tuple[str, int]:
        send_hints(state, url, quarantine.retry(state.store, lost, new_id, event).freed)
        return new_id, 0

    return show_result(state, follow(attended(state, begin, timeout_s)), as_json=as_json)


def _stage_line(one: quarantine.DeadStage) -> dict[str, Any]:
    about = {"kind": "stage", "job_id": one.job_id, "stage": one.stage, "reason": one.reason, "at_ms": one.at_ms}
    return {**about, "at": iso(one.at_ms), "session_id": None, "project": None, "turns": None}


def _session_line(state: State, one: DeadSession) -> dict[str, Any]:
    project = active_projects(state.store).get(one.session.project_id or "")
    return {
        "kind": "session",
        "job_id": one.turns.job_id,
        "stage": one.turns.stage,
        "reason": one.turns.reason,
        "at_ms": one.turns.at_ms,
        "at": iso(one.turns.at_ms),
        "session_id": one.session.session_id,
        "project": project.name if project else one.session.project_id,
        "turns": one.turns.turn_to - one.turns.turn_from,
    }
