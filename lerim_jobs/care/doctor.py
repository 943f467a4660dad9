"""Looking for what is wrong with an installation, and for the command that helps. Looks only: nothing is changed or called."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import apsw
import msgspec

from lerim_jobs import config
from lerim_jobs.care.records import Record, records
from lerim_jobs.clock import iso, now_ms
from lerim_jobs.config import Settings
from lerim_jobs.errors import ConfigError, JobsError, QueueUnavailable
from lerim_jobs.jobs.pausing import ready_in
from lerim_jobs.log.events import ProjectAdded, ProjectMoved, ProjectRemoved
from lerim_jobs.log.scan import scan, unreadable
from lerim_jobs.log.sqlite import SAFE_SQLITE, SCHEMA_VERSION, SqliteStore
from lerim_jobs.log.store import StageRow, Store
from lerim_jobs.paths import Home
from lerim_jobs.paths import home as home_of
from lerim_jobs.sqlite import damage

__all__ = ["Finding", "examine"]

Status = Literal["ok", "warning", "problem"]

_LOW_BYTES, _FULL_BYTES = 1_000_000_000, 100_000_000
_STUCK_MS = 600_000
_SKEW_MS = 60_000
_REACH_S = 2.0
_NAMED = 10
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Finding(msgspec.Struct, frozen=True):
    """What one check saw; `next` is what to do about it, empty when there is nothing to do."""

    check: str
    status: Status
    what: str
    next: str = ""


class _Patient(msgspec.Struct, frozen=True):
    env: Mapping[str, str]
    home: Home
    settings: Settings
    store: SqliteStore | None
    workers: list[Record]
    schedulers: list[Record]


def examine(env: Mapping[str, str]) -> list[Finding]:
    """Every check in turn; one that cannot be made says why."""
    home = home_of(env)
    found = [*_versions()]
    if not home.root.is_dir():
        return [*found, Finding("state folder", "problem", f"{str(home.root)!r} does not exist", "lerim init")]
    if home.restoring.exists():
        what = "a restore was interrupted while it moved files: no command opens the state"
        return [*found, Finding("restore", "problem", what, "lerim restore --finish, or lerim restore --roll-back")]
    settings = Settings()
    try:
        settings = config.load(env)
        about = str(home.config) if home.config.exists() else "none, all defaults"
        found.append(Finding("settings", "ok", about))
    except ConfigError as exc:
        found.append(Finding("settings", "problem", str(exc), f"correct {home.config}"))
    found += [*_folder(home), *_databases(home)]
    patient = _Patient(env, home, settings, _store(home, found), records(home, "workers"), records(home, "schedulers"))
    for check, look in _CHECKS.items():
        try:
            found += look(patient)
        except (JobsError, OSError, apsw.Error) as exc:
            found.append(Finding(check, "problem", f"cannot be examined: {exc}"))
    if patient.store:
        patient.store.close()
    return found


def _versions() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", "ok" if sys.version_info >= (3, 11) else "problem", python)
    version = apsw.sqlite_lib_version()
    safe = tuple(map(int, version.split("."))) >= SAFE_SQLITE
    yield Finding("sqlite", "ok" if safe else "problem", version, "" if safe else "pip install --upgrade apsw")


def _folder(home: Home) -> Iterator[Finding]:
    private = [home.root, home.log, home.traces, home.config, home.env_file, home.redis / "redis.sock"]
    loose = [path for path in private if path.exists() and path.stat().st_mode & 0o077]
    for path in loose:
        mode = stat.filemode(path.stat().st_mode)
        step = f"chmod go-rwx '{path}'"
        if path == home.root:
            step += ", or set LERIM_HOME to a folder that nobody else uses"
        yield Finding("permissions", "warning", f"{path} is {mode}: others can look in", step)
    if not os.access(home.root, os.W_OK | os.X_OK):
        yield Finding("state folder", "problem", f"{home.root} cannot be written", f"chmod u+rwx '{home.root}'")
    elif not loose:
        yield Finding("state folder", "ok", f"{home.root}, private")
    free = shutil.disk_usage(home.root).free
    status: Status = "problem" if free < _FULL_BYTES else "warning" if free < _LOW_BYTES else "ok"
    yield Finding(
        "disk", status, f"{free / 1e9:.1f} GB free", "" if status == "ok" else "make room; `lerim status` shows use"
    )


def _databases(home: Home) -> Iterator[Finding]:
    steps = {
        home.log: "lerim restore BACKUP (the damaged file is kept aside)",
        home.traces: f"lerim down, then move {home.traces} away: traces begin anew",
        home.search: "lerim rebuild",
    }
    for path, step in steps.items():
        if path.exists():
            problem = damage(path, thorough=False)
            yield Finding(path.name, "problem" if problem else "ok", problem or "sound", step if problem else "")


def _store(home: Home, found: list[Finding]) -> SqliteStore | None:
    """The log, unless opening it would make or change it, or cannot be done."""
    if not home.log.exists():
        found.append(Finding("schema", "warning", "there is no log yet", "lerim init"))
        return None
    try:
        db = apsw.Connection(str(home.log), flags=apsw.SQLITE_OPEN_READWRITE)
        schema = db.pragma("user_version")
        db.close()
        if schema > SCHEMA_VERSION:
            what = f"{schema}, written by a newer lerim; this one knows {SCHEMA_VERSION}"
            found.append(Finding("schema", "problem", what, "pip install --upgrade lerim-jobs"))
        elif schema < SCHEMA_VERSION:
            what = f"{schema}; the next command brings it to {SCHEMA_VERSION} and keeps a copy"
            found.append(Finding("schema", "warning", what, "lerim down, then any command"))
        else:
            found.append(Finding("schema", "ok", str(schema)))
            return SqliteStore(home.log, create=False)
    except (apsw.Error, JobsError) as exc:
        found.append(Finding("schema", "problem", f"the log cannot be opened: {exc}", "lerim restore BACKUP"))
    return None


def _events(patient: _Patient) -> Iterator[Finding]:
    if patient.store is None:
        return
    lost = [why for _, why in unreadable(patient.store)]
    for why in lost[:_NAMED]:
        yield Finding("events", "problem", f"{why}: it is left out", "lerim restore BACKUP of a time before it")
    if lost[_NAMED:]:
        yield Finding("events", "problem", f"{len(lost) - _NAMED} more cannot be read: `lerim audit --json` names them")
    if not lost:
        yield Finding("events", "ok", f"all {patient.store.position()} can be read")


def _models(patient: _Patient) -> Iterator[Finding]:
    from lerim_jobs.providers import check_models

    try:
        choices = check_models(patient.settings, patient.env)
    except ConfigError as exc:
        yield Finding("models", "problem", str(exc), "lerim models")
        return
    used = {f"{choice.model.provider}:{choice.model.model}" for choice in choices.values()}
    yield Finding("models", "ok", ", ".join(sorted(used)) + " (`lerim models check` asks them)")


def _redis(patient: _Patient) -> Iterator[Finding]:
    from lerim_jobs.machine import embedded, server

    if patient.settings.queue.redis_url:
        try:
            embedded.ensure(patient.home, patient.settings, patient.env)
        except QueueUnavailable as exc:
            yield Finding("redis", "problem", str(exc), "start it, or correct queue.redis_url")
            return
        yield Finding("redis", "ok", "the configured server answers")
        return
    try:
        program = server.binary(patient.env)
    except QueueUnavailable as exc:
        yield Finding("redis", "problem", str(exc), "install redis-server, or set LERIM_REDIS_URL")
        return
    path = patient.home.redis / "redis.sock"
    if path.exists() and server.ask(path) is None:
        yield Finding("redis", "warning", f"nothing answers on {path}", "the next command starts it anew")
    else:
        yield Finding("redis", "ok", f"{program}, {'running' if path.exists() else 'started when needed'}")


def _processes(patient: _Patient) -> Iterator[Finding]:
    living = [one for one in (*patient.workers, *patient.schedulers) if one.alive]
    dead = [one for one in (*patient.workers, *patient.schedulers) if not one.alive]
    workers = sum(one.alive for one in patient.workers)
    schedulers = sum(one.alive for one in patient.schedulers)
    what = f"{workers} workers, {schedulers} schedulers running"
    if schedulers and not workers:
        yield Finding("processes", "problem", f"{what}: what is scheduled is not done", "lerim down && lerim up")
    else:
        yield Finding("processes", "ok", what + ("" if workers else " (a command starts a worker when it needs one)"))
    if dead:
        what = f"{len(dead)} records of processes that are gone: {', '.join(one.path.name for one in dead)}"
        yield Finding("leftovers", "warning", what, "lerim status (clears them)")
    changed = patient.home.config.stat().st_mtime * 1000 if patient.home.config.exists() else 0
    stale = [str(one.pid) for one in living if one.started_ms < changed]
    if stale:
        what = f"the settings changed after these processes read them: pid {', '.join(stale)}"
        yield Finding("settings in use", "warning", what, "lerim down && lerim up")
    scratch = [path.name for path in patient.home.root.glob(".lerim-*")]
    if scratch:
        what = f"a backup or restore was interrupted before it moved anything: {', '.join(scratch)}"
        yield Finding("leftovers", "warning", what, f"remove them from {patient.home.root}")


def _jobs(patient: _Patient) -> Iterator[Finding]:
    if patient.store is None:
        return
    now = patient.store.now_ms()
    late = sorted({row.job_id for row in _waiting(patient.store) if _last_seen_ms(row) < now - _STUCK_MS})
    if late:
        what = f"{len(late)} jobs have waited for over {_STUCK_MS // 60_000} minutes: {', '.join(late[:5])}"
        idle = not any(one.alive for one in patient.workers)
        yield Finding("jobs", "problem", what, "lerim up" if idle else f"lerim jobs show {late[0]}")
    else:
        yield Finding("jobs", "ok", f"{len(patient.store.open_jobs())} unfinished, none stuck")


def _waiting(store: Store) -> Iterator[StageRow]:
    """Stages that run or could."""
    yield from store.running_stages()
    for queue in sorted({one.queue for one in store.count_stages(state="ready") if one.due}):
        yield from ready_in(store, queue)


def _last_seen_ms(row: StageRow) -> int:
    return max(row.due_ms, row.sent_ms, row.lease_until_ms)


def _clock(patient: _Patient) -> Iterator[Finding]:
    if patient.store is None or not (position := patient.store.position()):
        return
    newest = patient.store.read_all(position - 1, 1)
    ahead = newest[0].at_ms - now_ms() if newest else 0
    if ahead > _SKEW_MS:
        what = f"the newest event is of {iso(newest[0].at_ms)}, the clock says {iso(now_ms())}"
        yield Finding("clock", "problem", what, "set the clock; leases wait until it has caught up")
    else:
        yield Finding("clock", "ok", "not behind the log")


def _agents(patient: _Patient) -> Iterator[Finding]:
    from lerim_jobs.sessions import discovery

    folders = discovery.roots(patient.env, patient.settings.agents)
    for name, given in patient.settings.agents.items():
        if missing := discovery.missing(patient.env, name, given):
            what = f"{name}: {', '.join(map(str, missing))} does not exist"
            yield Finding("agents", "problem", what, f"lerim connect {name} PATH")
    found, unread = discovery.scan(folders)
    for name, paths in folders.items():
        count = sum(one.agent == name for one in found)
        yield Finding("agents", "ok", f"{name}: {count} session files in {', '.join(map(str, paths))}")
    closed = [one for one in unread if one.reason.startswith("unreadable")]
    for one in closed[:3]:
        yield Finding("agents", "warning", f"{one.path}: {one.reason}", f"ls -ld '{one.path}'")
    if not folders and not patient.settings.agents:
        yield Finding("agents", "warning", "no coding agent's sessions were found", "lerim connect")


def _projects(patient: _Patient) -> Iterator[Finding]:
    from lerim_jobs.machine.identity import host_name

    if patient.store is None:
        return
    projects = [one for one in _registered(patient.store) if one.host == host_name()]
    for one in projects:
        if not Path(one.path).is_dir():
            step = f"lerim project move {one.name} NEW_PATH (or: lerim project remove {one.name})"
            what = f"{one.name}: {one.path} is gone"
            yield Finding("projects", "problem", what, step)
        elif problem := _settings_problem(patient.env, one.path):
            yield Finding(
                "projects", "problem", f"{one.name}: {problem}", "change that file; until then it is left alone"
            )
        elif not os.access(one.path, os.W_OK):
            yield Finding("projects", "problem", f"{one.name}: {one.path} cannot be written", f"ls -ld '{one.path}'")
    if projects:
        yield Finding("projects", "ok", f"{len(projects)} registered here")
    else:
        yield Finding("projects", "warning", "none is registered", "lerim project add PATH")


def _settings_problem(env: Mapping[str, str], folder: str) -> str:
    try:
        config.load(env, project=Path(folder))
    except ConfigError as exc:
        return str(exc)
    return ""


def _registered(store: SqliteStore) -> list[ProjectAdded]:
    """From the events: asking the read model would write what it has not seen yet."""
    known: dict[str, ProjectAdded] = {}
    for event in (row.event for row in scan(store, ("ProjectAdded", "ProjectMoved", "ProjectRemoved"))):
        if isinstance(event, ProjectAdded):
            known[event.project_id] = event
        elif isinstance(event, ProjectMoved) and (one := known.get(event.project_id)):
            known[event.project_id] = msgspec.structs.replace(one, name=event.name, path=event.path)
        elif isinstance(event, ProjectRemoved):
            known.pop(event.project_id, None)
    return list(known.values())


def _tracing(patient: _Patient) -> Iterator[Finding]:
    variable = next((name for name in _ENDPOINTS if patient.env.get(name)), None)
    if variable is None:
        yield Finding("traces backend", "ok", "none configured; traces stay here")
        return
    url = urlsplit(patient.env[variable])
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        socket.create_connection((url.hostname or "", port), timeout=_REACH_S).close()
    except (OSError, UnicodeError) as exc:
        what = f"{variable}: nothing answers on {url.hostname}:{port} ({exc})"
        yield Finding(
            "traces backend", "warning", what, "start it, or unset the variable; spans are kept here meanwhile"
        )
        return
    yield Finding("traces backend", "ok", f"{url.hostname}:{port} answers")


_CHECKS: dict[str, Callable[[_Patient], Iterator[Finding]]] = {
    "events": _events,
    "models": _models,
    "redis": _redis,
    "processes": _processes,
    "jobs": _jobs,
    "clock": _clock,
    "agents": _agents,
    "projects": _projects,
    "traces backend": _tracing,
}
