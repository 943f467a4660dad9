"""`lerim up`, `down` and `status`: what runs in the background, and how things stand."""

from __future__ import annotations

import time

import click

from lerim_jobs.api.results import Status
from lerim_jobs.cli.output import emit, json_option, print_line, table
from lerim_jobs.cli.state import open_lerim, open_state

__all__ = ["down", "status", "up"]


@click.command()
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Worker processes.")
@json_option
def up(workers: int, as_json: bool) -> None:
    """Run workers and scheduler in the background and restart what dies."""
    from lerim_jobs.api.standing import as_process
    from lerim_jobs.machine import supervision

    state = open_state()
    now = supervision.up(state.home, state.settings, state.env, workers=workers)
    about = {
        "pid": now.pid,
        "workers": [as_process(one) for one in now.workers],
        "scheduler": [as_process(one) for one in now.schedulers],
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
    lerim = open_lerim()
    while True:
        about = lerim.status()
        if as_json:
            emit(about)
        else:
            _print(about)
        if not live:
            return
        time.sleep(2)
        if not as_json:
            click.clear()


def _print(about: Status) -> None:
    workers, scheduler = about.workers, about.scheduler
    print_line(
        f"Workers:   {len(workers)} running{'' if workers else ' (a command starts one when it needs it; `lerim up`)'}"
    )
    print_line(f"Scheduler: {'running' if scheduler else 'not running'}")
    print_line(f"Jobs:      {', '.join(f'{count} {name}' for name, count in about.jobs.items()) or 'none yet'}")
    if about.paused:
        print_line(f"Paused:    {', '.join(about.paused)} (`lerim jobs resume`)".replace("queue/*", "everything"))
    print_line(f"Waiting:   {', '.join(f'{count} in {name}' for name, count in about.queues.items()) or 'nothing'}")
    sessions = about.sessions
    print_line(f"Sessions:  {sessions.known} known, {sessions.waiting} waiting, {sessions.quarantined} quarantined")
    largest = sorted(about.disk_bytes.items(), key=lambda part: -part[1])[:4]
    parts = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in largest)
    print_line(f"Disk:      {sum(about.disk_bytes.values()) / 1e6:.1f} MB in {about.home} ({parts})")
    keeps = about.retention
    print_line(
        f"Keeps:     answers {keeps.answers_days:g}, outputs {keeps.outputs_days:g}, spans {keeps.spans_days:g} days; "
        f"tidied {keeps.last_run or 'never'}"
    )
    rows = [(one.name, one.path, one.last_sync or "never", one.last_maintain or "never") for one in about.projects]
    table(
        ("project", "path", "last sync", "last maintain"),
        rows,
        empty="No project is registered: `lerim project add PATH`.",
    )
