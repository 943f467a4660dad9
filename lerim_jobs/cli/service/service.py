"""`lerim up`, `down` and `status`: what runs in the background, and how things stand."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import msgspec

from lerim_jobs.cli.output import emit, json_option, print_line, table
from lerim_jobs.cli.state import State, open_state
from lerim_jobs.clock import iso
from lerim_jobs.jobs.line import JOBS, JobLine
from lerim_jobs.jobs.pausing import paused
from lerim_jobs.log.projection import fold_all
from lerim_jobs.machine import processes
from lerim_jobs.machine.processes import ProcessInfo
from lerim_jobs.projects import active_projects
from lerim_jobs.sessions.session import SESSIONS

__all__ = ["down", "status", "up"]


@click.command()
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Worker processes.")
@json_option
def up(workers: int, as_json: bool) -> None:
    """Run workers and scheduler in the background and restart what dies."""
    from lerim_jobs.machine import supervision

    state = open_state()
    now = supervision.up(state.home, state.settings, state.env, workers=workers)
    about = {
        "pid": now.pid,
        "workers": [_process(one) for one in now.workers],
        "scheduler": [_process(one) for one in now.schedulers],
        "already": now.already,
    }
    if as_json:
        emit(about)
        return
    what = "is running already" if now.already else "is running"
    print_line(f"lerim {what}: {len(now.workers)} workers, {len(now.schedulers)} scheduler. `lerim down` stops it.")


@click.command()
@json_option
def down(as_json: bool) -> None:
    """Stop everything that `lerim up` started, and the embedded Redis."""
    from lerim_jobs.machine import supervision

    state = open_state()
    report = supervision.down(state.home)
    if as_json:
        emit({"stopped": report.stopped, "killed": report.killed, "redis": report.redis})
        return
    count = len(report.stopped) + len(report.killed)
    redis = ", and the embedded Redis" if report.redis else ""
    print_line(f"Stopped {count} processes{redis}." if count or report.redis else "Nothing was running.")


@click.command()
@click.option("--live", is_flag=True, help="Show it anew every two seconds until interrupted.")
@json_option
def status(live: bool, as_json: bool) -> None:
    """Show workers, jobs, projects and disk use."""
    state = open_state()
    while True:
        about = _status(state)
        if as_json:
            emit(about)
        else:
            _print(about)
        if not live:
            return
        time.sleep(2)
        if not as_json:
            click.clear()


def _status(state: State) -> dict[str, Any]:
    lines = list(fold_all(state.store, JOBS).values())
    schedulers = processes.schedulers_running(state.home)
    sessions = list(fold_all(state.store, SESSIONS).values())
    held = paused(state.store)
    return {
        "home": str(state.home.root),
        "paused": sorted(held),
        "workers": [_process(one) for one in processes.workers_running(state.home)],
        "scheduler": _process(schedulers[0]) if schedulers else None,
        "queues": _ready(state),
        "running": sorted(f"{row.job_id} {row.stage}" for row in state.store.running_stages()),
        "jobs": dict(sorted(Counter(line.status for line in lines).items())),
        "projects": [
            {
                "name": one.name,
                "path": one.path,
                "last_sync": _last(lines, "sync"),
                "last_maintain": _last(lines, "maintain"),
            }
            for one in active_projects(state.store).values()
        ],
        "sessions": {
            "known": len(sessions),
            "waiting": sum(one.waiting for one in sessions),
            "quarantined": sum(bool(one.quarantined) for one in sessions),
        },
        "disk_bytes": _disk_bytes(state.home.root),
        "retention": {**msgspec.to_builtins(state.settings.retention), "last_run": _tidied(state)},
    }


def _process(one: ProcessInfo) -> dict[str, Any]:
    return {
        "host": one.host,
        "pid": one.pid,
        "queues": one.queues,
        "started_at": iso(one.started_ms),
        "tracing": one.tracing,
    }


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


def _print(about: dict[str, Any]) -> None:
    workers, scheduler = about["workers"], about["scheduler"]
    print_line(
        f"Workers:   {len(workers)} running{'' if workers else ' (a command starts one when it needs it; `lerim up`)'}"
    )
    print_line(f"Scheduler: {'running' if scheduler else 'not running'}")
    print_line(f"Jobs:      {', '.join(f'{count} {name}' for name, count in about['jobs'].items()) or 'none yet'}")
    if about["paused"]:
        print_line(f"Paused:    {', '.join(about['paused'])} (`lerim jobs resume`)".replace("queue/*", "everything"))
    print_line(f"Waiting:   {', '.join(f'{count} in {name}' for name, count in about['queues'].items()) or 'nothing'}")
    sessions = about["sessions"]
    print_line(
        f"Sessions:  {sessions['known']} known, {sessions['waiting']} waiting, {sessions['quarantined']} quarantined"
    )
    largest = sorted(about["disk_bytes"].items(), key=lambda part: -part[1])[:4]
    parts = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in largest)
    print_line(f"Disk:      {sum(about['disk_bytes'].values()) / 1e6:.1f} MB in {about['home']} ({parts})")
    keeps = about["retention"]
    print_line(
        f"Keeps:     answers {keeps['answers_days']:g}, outputs {keeps['outputs_days']:g}, spans {keeps['spans_days']:g} days; "
        f"tidied {keeps['last_run'] or 'never'}"
    )
    rows = [
        (one["name"], one["path"], one["last_sync"] or "never", one["last_maintain"] or "never")
        for one in about["projects"]
    ]
    table(
        ("project", "path", "last sync", "last maintain"),
        rows,
        empty="No project is registered: `lerim project add PATH`.",
    )
