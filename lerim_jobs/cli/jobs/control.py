"""`lerim jobs cancel`, `pause` and `resume`: what runs, and what may start."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lerim_jobs.api.state import State, find_job
from lerim_jobs.cli.output import emit, json_option, note, print_line
from lerim_jobs.cli.state import open_state
from lerim_jobs.errors import BadInput, JobsError
from lerim_jobs.jobs import pausing
from lerim_jobs.jobs.line import JobLine
from lerim_jobs.kinds.kind import QUEUES, host_queue
from lerim_jobs.machine.identity import alive, host_name, me
from lerim_jobs.machine.processes import workers_running

__all__ = ["cancel", "pause", "resume"]

F = TypeVar("F", bound=Callable[..., Any])


def _what(command: F) -> F:
    """A job, a queue or everything."""
    for option in (
        json_option,
        click.option("--all", "everything", is_flag=True, help="Every queue."),
        click.option("--queue", help=f"This queue: {', '.join((*QUEUES, 'host'))}."),
        click.argument("job_id", required=False),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("job_id")
@json_option
def cancel(job_id: str, as_json: bool) -> None:
    """End the job JOB_ID now. What it finished is kept, sessions it had taken wait for the next sync."""
    from lerim_jobs.api.asking import tell_workers
    from lerim_jobs.jobs.cancelling import cancel as end_now

    state = open_state()
    ended = end_now(state.store, job_id)
    for project_id in ended.unpublished:
        _publish(state, project_id)
    if workers_running(state.home):
        tell_workers(state, ended.freed)
    else:
        _close_trace(state, job_id)
    if as_json:
        emit({"job_id": job_id, "status": "cancelled", "ended_stages": ended.running, "released": ended.sessions})
        return
    print_line(
        f"{job_id} is cancelled: {len(ended.running)} running stages end, {len(ended.sessions)} sessions are given back."
    )


@click.command()
@_what
def pause(job_id: str | None, queue: str | None, everything: bool, as_json: bool) -> None:
    """Start no further stage of JOB_ID, of a queue, or of anything. Running stages finish."""
    state = open_state()
    name = _one_of(job_id, queue, everything)
    if job_id:
        _existing(state, job_id)
        changed = pausing.pause_job(state.store, job_id)
    else:
        changed = pausing.pause_queue(state.store, name)
    running = [
        row.stage
        for row in state.store.running_stages()
        if (row.job_id == job_id if job_id else name in (row.queue, pausing.EVERYTHING))
    ]
    if as_json:
        emit({"paused": _about(job_id, name), "changed": changed, "running": running})
        return
    what = "is paused" if changed else "was paused already"
    print_line(f"{_title(job_id, name)} {what}; {len(running)} running stages finish. `lerim jobs resume` goes on.")


@click.command()
@_what
@click.option("--no-wait", is_flag=True, help="Return at once, do not follow the job.")
@click.option("--wait-timeout-s", type=float, help="Stop waiting after so many seconds; the job goes on.")
def resume(
    job_id: str | None, queue: str | None, everything: bool, no_wait: bool, wait_timeout_s: float | None, as_json: bool
) -> int:
    """Go on with JOB_ID, paused or parked over a cap, or with a queue. `--all`: with every queue, not with paused jobs."""
    from lerim_jobs.api.asking import tell_workers

    state = open_state()
    name = _one_of(job_id, queue, everything)
    if job_id:
        return _resume_job(state, job_id, no_wait=no_wait, timeout_s=wait_timeout_s, as_json=as_json)
    changed = pausing.resume_queue(state.store, name)
    tell_workers(state, list(pausing.startable(state.store)))
    if as_json:
        emit({"resumed": _about(None, name), "changed": changed})
    else:
        print_line(f"{_title(None, name)} {'goes on' if changed else 'was not paused'}.")
    return 0


def _resume_job(state: State, job_id: str, *, no_wait: bool, timeout_s: float | None, as_json: bool) -> int:
    from lerim_jobs.api.asking import attended, resumed, tell_workers, wake
    from lerim_jobs.cli.jobs.follow import follow, show_result

    line = _existing(state, job_id)
    if not (line.paused or line.parked):
        raise BadInput(f"job {job_id!r} is neither paused nor parked, it is {line.status}")
    if not no_wait:
        return show_result(state, follow(attended(state, resumed(state, line), timeout_s)), as_json=as_json)
    tell_workers(state, wake(state, line))
    if as_json:
        emit({"resumed": _about(job_id, ""), "changed": True})
    else:
        print_line(f"{_title(job_id, '')} goes on.")
    return 0


def _one_of(job_id: str | None, queue: str | None, everything: bool) -> str:
    """The queue's name; empty for a job."""
    if sum(map(bool, (job_id, queue, everything))) != 1:
        raise BadInput("name one thing: a job, `--queue NAME` or `--all`")
    if everything:
        return pausing.EVERYTHING
    if queue and queue not in QUEUES and queue != "host" and not queue.startswith("host."):
        raise BadInput(f"there is no queue {queue!r}; there are {', '.join((*QUEUES, 'host'))}")
    return host_queue(host_name()) if queue == "host" else queue or ""


def _existing(state: State, job_id: str) -> JobLine:
    line = find_job(state, job_id)
    if line.finished_ms:
        raise BadInput(f"job {job_id!r} has ended already: {line.status}")
    return line


def _about(job_id: str | None, queue: str) -> dict[str, str | None]:
    return {"job_id": job_id, "queue": None if job_id else queue}


def _title(job_id: str | None, queue: str) -> str:
    return job_id or ("Everything" if queue == pausing.EVERYTHING else f"Queue {queue}")


def _publish(state: State, project_id: str) -> None:
    """The job changed memories and never came to write the files."""
    from lerim_jobs.memory.files.publishing import publish_now

    try:
        publish_now(state.store, project_id)
    except JobsError as exc:
        note(f"The files of {project_id} are behind, the next sync or maintain writes them: {exc}")


def _close_trace(state: State, job_id: str) -> None:
    """Where no worker runs nobody else would do it before the next one."""
    from lerim_jobs.jobs.closing import close_trace
    from lerim_jobs.tracing.export.backends import start

    telemetry = start(state.home, state.settings, state.env)
    close_trace(state.store, job_id, me(), telemetry.emit_job, alive=alive, at_once=True)
    telemetry.shutdown()
