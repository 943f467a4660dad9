"""Asking for a job, and seeing to it that somebody works on it: with a worker of our own where none runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import asdict

from lerim_jobs import ids
from lerim_jobs.api.following import Steps, follow, job_of, send_trace
from lerim_jobs.api.results import Job
from lerim_jobs.api.state import State, find_job, project_here
from lerim_jobs.clock import ms_from_iso, window_start_ms
from lerim_jobs.config import Settings
from lerim_jobs.errors import BadInput
from lerim_jobs.jobs import pausing
from lerim_jobs.jobs.line import JobLine
from lerim_jobs.jobs.request import request_job
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.kinds import kind_of
from lerim_jobs.log.events import JobKind, JobRequested
from lerim_jobs.log.store import StageRow
from lerim_jobs.machine.identity import host_name
from lerim_jobs.projects import active_projects
from lerim_jobs.providers import check_models
from lerim_jobs.tracing.policy import job_settings, warnings
from lerim_jobs.tracing.propagation import reserve

__all__ = [
    "Begin",
    "ask_only",
    "attended",
    "followed",
    "new_job",
    "new_request",
    "resumed",
    "send_hints",
    "sync_params",
    "tell_workers",
    "wake",
]

Begin = Callable[[str], tuple[str, int]]
"""Makes a job startable, with the queue's address in its hands: its id, and the version of its stream seen so far."""

_NO_WORKER = "a worker: none is running (`lerim up`)"


def new_job(state: State, kind: JobKind, params: dict[str, Any], *, projects: Sequence[str] = ()) -> Begin:
    """A job that will be asked for. Raises ConfigError when a model it needs is missing: then nothing is written."""
    check_models(state.settings, state.env)

    def begin(url: str) -> tuple[str, int]:
        event = new_request(state, kind, params, scope=",".join(projects) or "all")
        requested = request_job(state.store, ids.job_id(kind), event, projects=projects)
        send_hints(state, url, requested.freed)
        return requested.job_id, 0

    return begin


def resumed(state: State, line: JobLine) -> Begin:
    """A paused or parked job that will go on; what is still over a cap parks again."""

    def begin(url: str) -> tuple[str, int]:
        pausing.resume_job(state.store, line.job_id)
        seen = len(state.store.read(job_stream(line.job_id)))
        send_hints(state, url, wake(state, line))
        return line.job_id, seen

    return begin


def ask_only(state: State, begin: Begin) -> Job:
    """Begin and wait for nothing; `waits_for` says so where no worker runs."""
    from lerim_jobs.machine import embedded
    from lerim_jobs.machine.processes import workers_running

    try:
        with embedded.hold(state.home):
            address = embedded.ensure(state.home, state.settings, state.env)
            lasting = any(not one.temporary for one in workers_running(state.home))
            job_id, _ = begin(address.url)
            job = job_of(find_job(state, job_id))
            return job if lasting else msgspec.structs.replace(job, waits_for=_NO_WORKER)
    finally:
        embedded.stop(state.home, only_if_unused=True)


def attended(state: State, begin: Begin, timeout_s: float | None) -> Steps:
    """Begin and follow to the end, with a worker for that long where none runs."""
    from lerim_jobs.machine import embedded
    from lerim_jobs.machine.processes import temporary_worker, workers_running

    try:
        with embedded.hold(state.home):
            address = embedded.ensure(state.home, state.settings, state.env)
            if any(not one.temporary for one in workers_running(state.home)):
                job_id, seen = begin(address.url)
                job = yield from follow(state, job_id, timeout_s=timeout_s, after=seen)
                send_trace(state, job)
                return job
            state.tell("No worker is running: starting one for as long as this takes (`lerim up` keeps one running).")
            with temporary_worker(state.home, state.settings, state.env) as worker:
                job_id, seen = begin(address.url)
                return (yield from follow(state, job_id, timeout_s=timeout_s, worker=worker, after=seen))
    finally:
        # Whoever is the last to use the embedded Redis stops it; what it held is in the log.
        embedded.stop(state.home, only_if_unused=True)


def followed(state: State, job_id: str, *, timeout_s: float | None, worker: bool) -> Steps:
    """Follow a job that was asked for before; with `worker`, see to it that somebody works on it."""
    line = find_job(state, job_id)
    if worker and line.status in ("requested", "running"):
        return attended(state, lambda _: (job_id, 0), timeout_s)
    return _watched(state, job_id, timeout_s)


def wake(state: State, line: JobLine) -> list[StageRow]:
    """Take a job's pause and park away; the stages that may start now."""
    from lerim_jobs.jobs.claims import wake as wake_stage

    pausing.resume_job(state.store, line.job_id)
    for stage in line.parked:
        wake_stage(state.store, line.job_id, stage)
    return list(pausing.startable(state.store, job_id=line.job_id))


def sync_params(
    state: State,
    *,
    agents: Sequence[str] = (),
    window: str | None = None,
    since: str | None = None,
    until: str | None = None,
    max_sessions: int | None = None,
) -> dict[str, Any]:
    """What a sync looks for. Raises BadInput for an unknown agent or an unreadable time."""
    from lerim_jobs.sessions.agents import AGENTS

    for name in agents:
        if name not in AGENTS:
            raise BadInput(f"unknown agent {name!r}; there are {', '.join(AGENTS)}")
    return {
        "agents": list(agents) or None,
        "since_ms": _time(since) if since else _window(window or state.settings.schedule.sync_window),
        "until_ms": _time(until) if until else None,
        "max_sessions": max_sessions or state.settings.schedule.sync_max_sessions,
    }


def new_request(state: State, kind: JobKind, params: dict[str, Any], *, scope: str) -> JobRequested:
    """A job as it is asked for here: here its trace begins."""
    settings = _tracing_settings(state, kind, params, scope)
    for line in warnings(settings, state.env):
        state.tell(line)
    trace = reserve(settings, state.env)
    provider = state.env.get("LERIM_PROVIDER")
    return JobRequested(
        kind=kind,
        params={**params, **({"provider": provider} if provider else {})},
        scope=scope,
        requested_by=state.by,
        host=host_name(),
        **asdict(trace),
    )


def send_hints(state: State, url: str, rows: Sequence[StageRow]) -> None:
    """Tell workers what may start; they would find it in the log as well, a little later."""
    from lerim_jobs.queue.broker import connect, send_all

    if rows and not send_all(connect(url), rows):
        state.tell("Redis did not take the message; it is in the log and a worker will find it there.")


def tell_workers(state: State, rows: Sequence[StageRow]) -> None:
    """Send hints where somebody hears them; without workers the log is enough."""
    from lerim_jobs.machine import embedded
    from lerim_jobs.machine.processes import workers_running

    if rows and workers_running(state.home):
        send_hints(state, embedded.ensure(state.home, state.settings, state.env).url, rows)


def _watched(state: State, job_id: str, timeout_s: float | None) -> Steps:
    job = yield from follow(state, job_id, timeout_s=timeout_s)
    send_trace(state, job)
    return job


def _window(text: str) -> int | None:
    try:
        return window_start_ms(text)
    except ValueError as exc:
        raise BadInput(str(exc)) from None


def _time(text: str) -> int:
    try:
        return ms_from_iso(text)
    except ValueError:
        raise BadInput(f"cannot read the time {text!r}; write it as 2026-01-31 or 2026-01-31T12:00:00Z") from None


def _tracing_settings(state: State, kind: JobKind, params: dict[str, Any], scope: str) -> Settings:
    """Those of the project the job is about, of the one you are in when it is about all, else the user's."""
    known = active_projects(state.store)
    wanted = [one for one in (*scope.split(","), params.get("project_id")) if one in known]
    covered = [known[one] for one in wanted or (known if kind_of(kind).covers_projects else ())]
    about = covered[0] if len(wanted) == 1 else project_here(state)
    return job_settings(state.env, here=Path(about.path) if about else None, covers=[Path(one.path) for one in covered])
