"""`lerim up` and `lerim down`: workers and scheduler in the background under supervisord, which restarts what dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from lerim_jobs.config import Settings
from lerim_jobs.errors import QueueUnavailable
from lerim_jobs.ids import derived
from lerim_jobs.paths import Home
from lerim_jobs.queue import embedded, identity
from lerim_jobs.queue.processes import WATCH_PARENT, ProcessInfo, schedulers_running, workers_running

__all__ = ["DownReport", "Supervision", "down", "state", "up"]

_UP_S = 40.0
_DOWN_S = 25.0
_KILL_S = 3.0

_CONFIG = """\
[supervisord]
logfile={logs}/supervisord.log
logfile_maxbytes=5MB
logfile_backups=2
pidfile={run}/supervisord.pid
childlogdir={logs}
directory={run}
umask=077
{user}
[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
_PROGRAM = """
[program:{name}]
command={command}
numprocs={count}
process_name=%(program_name)s-%(process_num)d
environment={watch}="1"
autorestart=true
startretries=20
stopwaitsecs=15
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile={logs}/{name}.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=2
"""


class Supervision(msgspec.Struct, frozen=True):
    """What runs in the background. `already`: `up` found it running."""

    running: bool
    pid: int | None = None
    workers: list[ProcessInfo] = []
    schedulers: list[ProcessInfo] = []
    already: bool = False


class DownReport(msgspec.Struct, frozen=True):
    """What `down` ended: pids, those that had to be killed, and whether the embedded Redis was stopped."""

    stopped: list[int] = []
    killed: list[int] = []
    redis: bool = False


class _Record(msgspec.Struct, frozen=True):
    pid: int
    start: str


def up(
    home: Home,
    settings: Settings,
    env: Mapping[str, str],
    *,
    workers: int = 1,
    programs: Mapping[str, Sequence[str]] | None = None,
) -> Supervision:
    """Start everything in the background and wait until it answers. Raises QueueUnavailable naming the log."""
    if (now := state(home)).running:
        return msgspec.structs.replace(now, already=True)
    embedded.ensure(home, settings, env)
    commands = programs or {name: [sys.executable, "-m", name] for name in ("workers", "scheduler")}
    config = home.run / "supervisord.conf"
    config.write_text(_config(home, commands, workers), "utf-8")
    config.chmod(0o600)
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(config)]
    done = subprocess.run(command, env=dict(env), capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no reason given"]
        raise QueueUnavailable(f"supervisord does not start: {reason[0]}")
    _record(home)
    if programs is None:
        _wait_until_up(home, workers)
    return state(home)


def down(home: Home) -> DownReport:
    """Stop everything of this state folder, in bounded time, by process id; also what a killed supervisord left."""
    supervisor = _read_record(home)
    stopped, killed = _end([supervisor] if supervisor else [], _DOWN_S)
    rest = [_Record(info.pid, info.start) for info in (*workers_running(home), *schedulers_running(home))]
    also_stopped, also_killed = _end([*rest, *_masters(rest)], _KILL_S * 5)
    for name in ("supervisord.pid", "supervisord.json", "supervisord.conf"):
        (home.run / name).unlink(missing_ok=True)
    _socket(home).unlink(missing_ok=True)
    workers_running(home), schedulers_running(home)  # forgets the records of the dead
    return DownReport(stopped + also_stopped, killed + also_killed, embedded.stop(home, only_if_unused=False))


def state(home: Home) -> Supervision:
    """What runs now; a look at a few files."""
    record = _read_record(home)
    running = record is not None and identity.still_runs(record.pid, record.start)
    return Supervision(
        running, record.pid if record and running else None, workers_running(home), schedulers_running(home)
    )


def _config(home: Home, commands: Mapping[str, Sequence[str]], workers: int) -> str:
    """supervisord expands `%`, so ours are doubled; keys stay in the inherited environment, never in this file."""
    logs, run, socket = (_escaped(str(path)) for path in (home.logs, home.run, _socket(home)))
    user = "user=root\n" if os.getuid() == 0 else ""
    parts = [_CONFIG.format(logs=logs, run=run, socket=socket, user=user)]
    for name, command in commands.items():
        line = " ".join(f'"{_escaped(part)}"' for part in command)
        count = workers if name == "workers" else 1
        parts.append(_PROGRAM.format(name=name, command=line, count=count, logs=logs, watch=WATCH_PARENT))
    return "".join(parts)


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _socket(home: Home) -> Path:
    path = home.run / "supervisord.sock"
    # supervisord binds a longer temporary name first; 90 bytes leave room for it below the limit of 108.
    return path if len(os.fsencode(path)) <= 90 else Path(f"/tmp/lerim-{derived(str(path), length=12)}.sock")  # noqa: S108 - chmod 0700


def _wait_until_up(home: Home, workers: int) -> None:
    deadline = time.monotonic() + _UP_S
    while True:
        now = state(home)
        if len(now.workers) >= workers and now.schedulers:
            return
        if not now.running or time.monotonic() > deadline:
            raise QueueUnavailable(f"not everything started: see {str(home.logs)!r}, then `lerim down`")
        time.sleep(0.05)


def _record(home: Home) -> None:
    deadline = time.monotonic() + 10
    pidfile = home.run / "supervisord.pid"
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError):
            pid = int(pidfile.read_text("ascii"))
            (home.run / "supervisord.json").write_bytes(msgspec.json.encode(_Record(pid, identity.started_at(pid))))
            return
        time.sleep(0.02)
    raise QueueUnavailable(f"supervisord does not start: see {str(home.logs / 'supervisord.log')!r}")


def _read_record(home: Home) -> _Record | None:
    try:
        return msgspec.json.decode((home.run / "supervisord.json").read_bytes(), type=_Record)
    except (OSError, msgspec.DecodeError):
        return None


def _masters(children: Iterable[_Record]) -> list[_Record]:
    """The dramatiq masters above worker children; only those that are our own command."""
    import psutil

    masters = []
    for child in children:
        with suppress(psutil.Error):
            parent = psutil.Process(child.pid).parent()
            if parent and parent.pid > 1 and {"workers", "scheduler"} & set(parent.cmdline()[2:4]):
                masters.append(_Record(parent.pid, identity.started_at(parent.pid)))
    return masters


def _end(processes: Sequence[_Record], limit_s: float) -> tuple[list[int], list[int]]:
    """SIGTERM, wait, SIGKILL; returns (ended in order, killed)."""
    running = [one for one in processes if identity.still_runs(one.pid, one.start)]
    for one in running:
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGTERM)
    left = _wait_gone(running, limit_s)
    for one in left:
        with suppress(ProcessLookupError):
            os.kill(one.pid, signal.SIGKILL)
    _wait_gone(left, _KILL_S)
    killed = [one.pid for one in left]
    return [one.pid for one in running if one.pid not in killed], killed


def _wait_gone(processes: Sequence[_Record], limit_s: float) -> list[_Record]:
    deadline = time.monotonic() + limit_s
    left = list(processes)
    while left and time.monotonic() < deadline:
        left = [one for one in left if identity.still_runs(one.pid, one.start)]
        time.sleep(0.02)
    return left
