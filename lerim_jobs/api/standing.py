"""How things stand: the jobs there are, and what runs, waits and takes up room."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import asdict

from lerim_jobs.api.following import job_of
from lerim_jobs.api.results import Job, Kept, Process, ProjectStatus, SessionCounts, Status
from lerim_jobs.api.state import State, find_job
from lerim_jobs.clock import iso
from lerim_jobs.jobs.line import JOBS, JobLine
from lerim_jobs.jobs.pausing import paused, stands
from lerim_jobs.log.projection import fold_all
from lerim_jobs.projects import active_projects

if TYPE_CHECKING:
    from lerim_jobs.machine.processes import ProcessInfo

__all__ = ["as_process", "job", "jobs", "status"]


def job(state: State, job_id: str) -> Job:
    """One job. Raises BadInput for an id nobody knows."""
    return job_of(_with_pause(state, find_job(state, job_id), paused(state.store)))


def jobs(state: State, *, status: str | None, limit: int) -> list[Job]:
    """The newest first; one that a paused queue keeps from going on is shown as paused."""
    held = paused(state.store)
    lines = [_with_pause(state, line, held) for line in fold_all(state.store, JOBS).values()]
    lines.sort(key=lambda line: line.requested_ms, reverse=True)
    return [job_of(line) for line in lines if status in (None, line.status)][:limit]


def status(state: State) -> Status:
    """Everything at a glance."""
    from lerim_jobs.machine.processes import schedulers_running, workers_running
    from lerim_jobs.sessions.session import SESSIONS

    lines = list(fold_all(state.store, JOBS).values())
    sessions = list(fold_all(state.store, SESSIONS).values())
    schedulers = schedulers_running(state.home)
    return Status(
        home=str(state.home.root),
        paused=sorted(paused(state.store)),
        workers=[as_process(one) for one in workers_running(state.home)],
        scheduler=as_process(schedulers[0]) if schedulers else None,
        queues=_ready(state),
        running=sorted(f"{row.job_id} {row.stage}" for row in state.store.running_stages()),
        jobs=dict(sorted(Counter(line.status for line in lines).items())),
        projects=[
            ProjectStatus(one.name, one.path, _last(lines, "sync"), _last(lines, "maintain"))
            for one in active_projects(state.store).values()
        ],
        sessions=SessionCounts(
            known=len(sessions),
            waiting=sum(one.waiting for one in sessions),
            quarantined=sum(bool(one.quarantined) for one in sessions),
        ),
        disk_bytes=_disk_bytes(state.home.root),
        retention=Kept(**asdict(state.settings.retention), last_run=_tidied(state)),
    )


def as_process(one: ProcessInfo) -> Process:
    """A process as it is shown."""
    return Process(one.host, one.pid, one.queues, iso(one.started_ms), one.tracing)


def _with_pause(state: State, line: JobLine, held: set[str]) -> JobLine:
    if held and line.finished_ms is None and stands(held, line.job_id, state.store.count_stages(line.job_id)):
        return msgspec.structs.replace(line, status="paused")
    return line


def _ready(state: State) -> dict[str, int]:
    """Stages that could run, by queue."""
    found = Counter[str]()
    for one in state.store.count_stages(state="ready"):
        found[one.queue] += one.stages
    return dict(found)


def _last(lines: list[JobLine], kind: str) -> str | None:
    """When the newest job of the kind ended. Jobs of these kinds go over all projects unless they were narrowed."""
    return iso(max((line.finished_ms for line in lines if line.kind == kind and line.finished_ms), default=None))


def _disk_bytes(folder: Path) -> dict[str, int]:
    sizes = Counter[str]()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            sizes[path.relative_to(folder).parts[0].removesuffix("-wal").removesuffix("-shm")] += path.stat().st_size
    return dict(sorted(sizes.items()))


def _tidied(state: State) -> str | None:
    from lerim_jobs.care.retain import ran_at_ms

    return iso(ran_at_ms(state.store) or None)
