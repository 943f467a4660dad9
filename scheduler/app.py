"""Wall-aligned UTC fires, each asking for one job whose id is made of the scheduled time.

Two schedulers ask for the same id, and the log takes it once. After a pause the missed fires count as one. A job of the same
scope that is still unfinished is not asked for again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger

from lerim_jobs import ids
from lerim_jobs.clock import now_ms, window_start_ms
from lerim_jobs.config import Settings, Tracing
from lerim_jobs.errors import JobsError
from lerim_jobs.jobs.request import Requested, request_job
from lerim_jobs.log.events import JobKind, JobRequested
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.store import Store
from lerim_jobs.machine import embedded
from lerim_jobs.machine.identity import host_name
from lerim_jobs.paths import Home
from lerim_jobs.projects import active_projects
from lerim_jobs.providers import check_models
from lerim_jobs.queue.broker import connect, send_all
from lerim_jobs.tracing.policy import job_settings
from lerim_jobs.tracing.propagation import reserve

__all__ = ["Clockwork", "cron", "make_scheduler", "scheduled_job_id"]

_log = logging.getLogger(__name__)
_GRACE_S = 3600


class Clockwork:
    """Asks for jobs. `store` is opened once; its connections belong to the thread that uses them."""

    def __init__(self, env: Mapping[str, str], settings: Settings, home: Home, store: Store | None = None) -> None:
        self.env, self.settings, self.home = dict(env), settings, home
        self.store: Store = store or SqliteStore(home.log)
        self._complained = ""
        self._projects: dict[str, Tracing] = {}

    def fire(self, kind: JobKind, at: datetime) -> Requested | None:
        """Ask for the job scheduled at `at`; None when there is no reason to, or something is in the way."""
        try:
            return self._ask(kind, at)
        except JobsError as exc:
            if str(exc) != self._complained:
                _log.warning("%s was not asked for: %s", kind, exc)
            self._complained = str(exc)
            return None

    def _ask(self, kind: JobKind, at: datetime) -> Requested | None:
        projects = [one.project_id for one in active_projects(self.store).values() if one.host == host_name()]
        if not projects:
            return None
        check_models(self.settings, self.env)
        trace = reserve(self._tracing_settings(), self.env)
        event = JobRequested(
            kind=kind,
            params=self._params(kind, projects),
            scope="all",
            requested_by="scheduler",
            host=host_name(),
            **msgspec.structs.asdict(trace),
        )
        job_id = scheduled_job_id(kind, "all", at)
        requested = request_job(self.store, job_id, event, projects=projects, skip_if_open=True)
        if not requested.repeated:
            _log.info("asked for %s", job_id)
            self._send(requested)
        return requested

    def _tracing_settings(self) -> Settings:
        """The user's, with content as strict as the strictest project. Project files are read once, as the user's is."""
        folders = [one.path for one in active_projects(self.store).values() if one.host == host_name()]
        for folder in set(folders) - self._projects.keys():
            self._projects[folder] = job_settings(self.env, here=None, covers=[Path(folder)]).tracing
        mine = self.settings.tracing
        strictest = msgspec.structs.replace(
            mine,
            include_content=mine.include_content and all(self._projects[one].include_content for one in folders),
            include_httpx=mine.include_httpx and all(self._projects[one].include_httpx for one in folders),
        )
        return msgspec.structs.replace(self.settings, tracing=strictest)

    def _params(self, kind: JobKind, projects: list[str]) -> dict[str, Any]:
        if kind == "maintain":
            return {"project_ids": projects}
        schedule = self.settings.schedule
        return {
            "since_ms": window_start_ms(schedule.sync_window),
            "max_sessions": schedule.sync_max_sessions,
            "settle_ms": schedule.settle_ms,
        }

    def _send(self, requested: Requested) -> None:
        try:
            address = embedded.ensure(self.home, self.settings, self.env)
        except JobsError as exc:
            _log.warning("%s; a worker will find the job in the log", exc)
            return
        send_all(connect(address.url), requested.freed)


def scheduled_job_id(kind: JobKind, scope: str, at: datetime) -> str:
    """The same for every scheduler that fires for the same time."""
    when = at.astimezone(UTC)
    return f"{kind}-{when:%Y%m%d-%H%M%S}-{ids.derived(kind, scope, when.isoformat(), length=6)}"


def cron(minutes: int) -> CronTrigger:
    """Every so many minutes, aligned to the UTC day; settings allow only intervals that divide it."""
    if minutes < 60:
        return CronTrigger(minute=f"*/{minutes}", timezone=UTC)
    return CronTrigger(hour=f"*/{minutes // 60}" if minutes < 1440 else "0", minute="0", timezone=UTC)


def make_scheduler(clockwork: Clockwork) -> BackgroundScheduler:
    """Sync and maintain at their intervals. Late fires run once, however many were missed."""
    scheduler = BackgroundScheduler(
        timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": _GRACE_S}
    )
    schedule = clockwork.settings.schedule
    intervals: dict[JobKind, int] = {
        "sync": schedule.sync_interval_minutes,
        "maintain": schedule.maintain_interval_minutes,
    }
    for kind, minutes in intervals.items():
        scheduler.add_job(_fire, cron(minutes), args=(clockwork, kind, minutes), id=kind)
    return scheduler


def _fire(clockwork: Clockwork, kind: JobKind, minutes: int) -> None:
    """APScheduler does not tell a job its scheduled time; the wall-aligned boundary just passed is the same for all."""
    step_ms = minutes * 60_000
    clockwork.fire(kind, datetime.fromtimestamp(now_ms() // step_ms * step_ms / 1000, UTC))
