"""Asking for a job and following it, for every command that does: with a worker of its own where none runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from lerim_jobs import ids
from lerim_jobs.cli.output import emit, note, print_line
from lerim_jobs.cli.state import State, project_here, spans_of
from lerim_jobs.clock import ms_from_iso, window_start_ms
from lerim_jobs.config import Settings
from lerim_jobs.errors import BadInput
from lerim_jobs.jobs.line import JobLine
from lerim_jobs.jobs.request import Requested, request_job
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
    "finish_job",
    "followed",
    "forward_trace",
    "new_request",
    "resume_job",
    "run_job",
    "send_hints",
    "sync_params",
]


def run_job(
    state: State,
    kind: JobKind,
    params: dict[str, Any],
    *,
    projects: Sequence[str] = (),
    no_wait: bool,
    timeout_s: float | None,
    as_json: bool,
) -> int:
    """Ask for the job and follow it; returns the exit code. Nothing is written when a model or Redis is missing."""
    from lerim_jobs.cli.jobs.follow import show_result

    if no_wait:
        _ask_only(state, kind, params, projects, as_json=as_json)
        return 0
    line = finish_job(state, kind, params, projects=projects, timeout_s=timeout_s)
    return show_result(state, line, as_json=as_json)


def finish_job(
    state: State, kind: JobKind, params: dict[str, Any], *, projects: Sequence[str] = (), timeout_s: float | None
) -> JobLine:
    """Ask for the job and follow it to its end, with a worker of its own where none runs."""
    check_models(state.settings, state.env)
    return followed(state, lambda url: (_request(state, kind, params, projects, url).job_id, 0), timeout_s)


def _ask_only(state: State, kind: JobKind, params: dict[str, Any], projects: Sequence[str], *, as_json: bool) -> None:
    from lerim_jobs.machine import embedded
    from lerim_jobs.machine.processes import workers_running

    check_models(state.settings, state.env)
    try:
        with embedded.hold(state.home):
            address = embedded.ensure(state.home, state.settings, state.env)
            lasting = any(not one.temporary for one in workers_running(state.home))
            _print_id(_request(state, kind, params, projects, address.url).job_id, as_json=as_json, workers=lasting)
    finally:
        embedded.stop(state.home, only_if_unused=True)


def followed(state: State, begin: Callable[[str], tuple[str, int]], timeout_s: float | None) -> JobLine:
    """Follow the job that `begin` gives, as (job id, version seen), with the queue's address in its hands."""
    from lerim_jobs.cli.jobs.follow import follow
    from lerim_jobs.machine import embedded
    from lerim_jobs.machine.processes import temporary_worker, workers_running

    try:
        with embedded.hold(state.home):
            address = embedded.ensure(state.home, state.settings, state.env)
            lasting = [one for one in workers_running(state.home) if not one.temporary]
            if lasting:
                job_id, seen = begin(address.url)
                line = follow(state, job_id, timeout_s=timeout_s, after=seen)
                forward_trace(state, line)
                return line
            note("No worker is running: starting one for this command (`lerim up` keeps one running).")
            with temporary_worker(state.home, state.settings, state.env) as worker:
                job_id, seen = begin(address.url)
                return follow(state, job_id, timeout_s=timeout_s, worker=worker, after=seen)
    finally:
        # Whoever is the last to use the embedded Redis stops it; what it held is in the log.
        embedded.stop(state.home, only_if_unused=True)


def forward_trace(state: State, line: JobLine) -> None:
    """Where this command's environment names a backend that no worker has, send it the finished trace."""
    from lerim_jobs.machine.processes import workers_running
    from lerim_jobs.tracing.export.forward import destinations, forward

    known = [backend for one in workers_running(state.home) if not one.temporary for backend in one.backends]
    missing = set(destinations(state.env)) - set(known)
    if not (missing and line.sampled and line.finished_ms):
        return
    _, lost = forward(state.home, state.env, spans_of(state, line.job_id, line.trace_id), known=known)
    if lost:
        note(f"{lost} spans were not taken by {', '.join(sorted(missing))}; `lerim trace show {line.job_id}` has them.")


def resume_job(state: State, line: JobLine, *, timeout_s: float | None, as_json: bool) -> int:
    """Go on with a paused or parked job and follow it; what is still over a cap parks again."""
    from lerim_jobs.cli.jobs.follow import show_result
    from lerim_jobs.jobs import pausing
    from lerim_jobs.jobs.claims import wake

    def begin(url: str) -> tuple[str, int]:
        pausing.resume_job(state.store, line.job_id)
        seen = len(state.store.read(job_stream(line.job_id)))
        for stage in line.parked:
            wake(state.store, line.job_id, stage)
        send_hints(url, list(pausing.startable(state.store, job_id=line.job_id)))
        return line.job_id, seen

    return show_result(state, followed(state, begin, timeout_s), as_json=as_json)


def sync_params(
    state: State,
    *,
    agent: str | None = None,
    window: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> dict[str, Any]:
    """What a sync looks for. Raises BadInput for an unknown agent or an unreadable time."""
    from lerim_jobs.sessions.agents import AGENTS

    agents = [name.strip() for name in agent.split(",") if name.strip()] if agent else None
    for name in agents or ():
        if name not in AGENTS:
            raise BadInput(f"unknown agent {name!r}; there are {', '.join(AGENTS)}")
    return {
        "agents": agents,
        "since_ms": _time(since) if since else _window(window or state.settings.schedule.sync_window),
        "until_ms": _time(until) if until else None,
        "max_sessions": state.settings.schedule.sync_max_sessions,
    }


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


def _request(state: State, kind: JobKind, params: dict[str, Any], projects: Sequence[str], url: str) -> Requested:
    event = new_request(state, kind, params, scope=",".join(projects) or "all")
    requested = request_job(state.store, ids.job_id(kind), event, projects=projects)
    send_hints(url, requested.freed)
    return requested


def new_request(state: State, kind: JobKind, params: dict[str, Any], *, scope: str) -> JobRequested:
    """A job as this command asks for it: here its trace begins."""
    settings = _tracing_settings(state, kind, params, scope)
    for line in warnings(settings, state.env):
        note(line)
    trace = reserve(settings, state.env)
    provider = state.env.get("LERIM_PROVIDER")
    return JobRequested(
        kind=kind,
        params={**params, **({"provider": provider} if provider else {})},
        scope=scope,
        requested_by="cli",
        host=host_name(),
        **asdict(trace),
    )


def send_hints(url: str, rows: Sequence[StageRow]) -> None:
    """Tell workers what may start; they would find it in the log as well, a little later."""
    from lerim_jobs.queue.broker import connect, send_all

    if rows and not send_all(connect(url), rows):
        note("Redis did not take the message; it is in the log and a worker will find it there.")


def _tracing_settings(state: State, kind: JobKind, params: dict[str, Any], scope: str) -> Settings:
    """Those of the project the job is about, of the one you are in when it is about all, else the user's."""
    known = active_projects(state.store)
    wanted = [one for one in (*scope.split(","), params.get("project_id")) if one in known]
    covered = [known[one] for one in wanted or (known if kind_of(kind).covers_projects else ())]
    about = covered[0] if len(wanted) == 1 else project_here(state)
    return job_settings(state.env, here=Path(about.path) if about else None, covers=[Path(one.path) for one in covered])


def _print_id(job_id: str, *, as_json: bool, workers: bool) -> None:
    if as_json:
        emit({"job_id": job_id})
    else:
        print_line(job_id)
    if not workers:
        note("No worker is running: the job waits until one does (`lerim up`).")
