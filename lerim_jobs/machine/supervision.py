"""`lerim up` and `lerim down`: workers and scheduler in the background under supervisord, which restarts what dies.

Everything started here carries a random mark in its environment, written down before the first process exists. So `down`
finds all of it, also the children of a supervisord that was killed, and nothing else.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from lerim_jobs.config import Settings
from lerim_jobs.errors import QueueUnavailable
from lerim_jobs.machine import embedded, identity, supervisor_config, whole_file
from lerim_jobs.machine.locks import exclusive
from lerim_jobs.machine.own_environment import own_environment
from lerim_jobs.machine.processes import ProcessInfo, schedulers_running, workers_running
from lerim_jobs.machine.termination import Ended, Known, end, marked, tops
from lerim_jobs.paths import Home

__all__ = ["MARK", "DownReport", "Supervision", "down", "mark", "state", "up"]

MARK = "LERIM_SUPERVISED"
"""Environment variable of everything that `up` started: whose it is."""

_BOOT_S = 10.0
_MAX_SOCKET_BYTES = 90
_UP_S = 90.0
_LEFTOVERS_S = 12.0
_FILES = ("supervisord.pid", "supervisord.json", "supervisord.conf", "supervisord.sock")


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
    """Written twice: with the mark alone before supervisord starts, with its process after."""

    mark: str
    pid: int = 0
    start: str = ""


def up(
    home: Home,
    settings: Settings,
    env: Mapping[str, str],
    *,
    workers: int = 1,
    programs: Mapping[str, Sequence[str]] | None = None,
) -> Supervision:
    """Start everything in the background and wait until it answers. Raises QueueUnavailable naming the log."""
    with exclusive(home.run / "supervisord.lock"):
        home.ensure()
        if (now := state(home)).running:
            return msgspec.structs.replace(now, already=True)
        _end_leftovers(home, _read_record(home))
        embedded.ensure(home, settings, env)
        commands = programs or {name: [sys.executable, "-m", name] for name in ("workers", "scheduler")}
        # supervisord makes the path absolute and binds a longer temporary name before it renames it.
        control = len(os.fsencode(home.run / "supervisord.sock")) <= _MAX_SOCKET_BYTES
        _start(home, env, supervisor_config.render(commands, workers=workers, control=control))
    if programs is None:
        _wait_until_up(home, workers)
    return state(home)


def down(home: Home, *, limit_s: float = 25.0, leftovers_s: float = _LEFTOVERS_S) -> DownReport:
    """Stop everything of this state folder in bounded time; also what a killed supervisord left.

    Commands that still run keep their own worker, and with it the embedded Redis.
    """
    if not home.run.is_dir():
        return DownReport()
    with exclusive(home.run / "supervisord.lock"):
        record = _read_record(home)
        supervisor = [Known(record.pid, record.start)] if record else []
        first = end(supervisor, limit_s=limit_s, meanwhile=lambda: _wake(home))
        rest = _end_leftovers(home, record, leftovers_s)
        for name in _FILES:
            (home.run / name).unlink(missing_ok=True)
        whole_file.sweep(home.run)
        redis = embedded.stop(home, only_if_unused=True)
    return DownReport(first.stopped + rest.stopped, first.killed + rest.killed, redis)


def state(home: Home) -> Supervision:
    """What runs now; a look at a few files."""
    record = _read_record(home)
    running = record is not None and identity.still_runs(record.pid, record.start)
    return Supervision(
        running, record.pid if record and running else None, workers_running(home), schedulers_running(home)
    )


def mark(home: Home) -> str | None:
    """The mark of what runs in the background now; None when no supervisor does."""
    record = _read_record(home)
    alive = record is not None and (record.pid == 0 or identity.still_runs(record.pid, record.start))
    return record.mark if record and alive else None


def _start(home: Home, env: Mapping[str, str], config: str) -> None:
    fresh = secrets.token_hex(16)
    _write_record(home, _Record(fresh))
    path = home.run / "supervisord.conf"
    path.touch(mode=0o600)
    path.write_text(config, "utf-8")
    # A killed supervisord leaves its number behind, which would be taken for the new one's.
    (home.run / "supervisord.pid").unlink(missing_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "supervisor.supervisord", "-c", "run/supervisord.conf"],
        env={**own_environment(env), MARK: fresh, "LERIM_HOME": str(home.root)},
        cwd=home.root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = (done.stderr or done.stdout).strip().partition("\n")[0] or "it gave no reason"
        raise QueueUnavailable(f"supervisord does not start: {reason}")
    pid = _pid(home)
    _write_record(home, _Record(fresh, pid, identity.started_at(pid)))
    _wake(home)


def _pid(home: Home) -> int:
    """supervisord detaches itself and writes its pid a moment later."""
    deadline = time.monotonic() + _BOOT_S
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError):
            return int((home.run / "supervisord.pid").read_text("ascii"))
        time.sleep(0.02)
    raise QueueUnavailable(f"supervisord does not start: see {str(home.logs / 'supervisord.log')!r}")


def _wake(home: Home) -> None:
    """supervisord acts when something happens, or once a second: a connection saves the wait."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        connection.connect(str(home.run / "supervisord.sock"))


def _wait_until_up(home: Home, workers: int) -> None:
    deadline = time.monotonic() + _UP_S
    while True:
        now = state(home)
        if len(_lasting(now.workers)) >= workers and now.schedulers:
            return
        if not now.running or time.monotonic() > deadline:
            raise QueueUnavailable(f"not everything started: see {str(home.logs)!r}, then `lerim down`")
        time.sleep(0.05)


def _end_leftovers(home: Home, record: _Record | None, limit_s: float = _LEFTOVERS_S) -> Ended:
    """What carries the mark, and what registered itself here; a command's own worker is the command's to end."""
    registered = [*_lasting(workers_running(home)), *schedulers_running(home)]
    left = {Known(info.pid, info.start) for info in registered}
    left.update(marked(MARK, record.mark) if record else ())
    ended = end(left, limit_s=limit_s, ask=tops(list(left)))
    workers_running(home), schedulers_running(home)  # forgets the records of the dead
    return ended


def _lasting(found: Sequence[ProcessInfo]) -> list[ProcessInfo]:
    return [info for info in found if not info.temporary]


def _read_record(home: Home) -> _Record | None:
    try:
        return msgspec.json.decode((home.run / "supervisord.json").read_bytes(), type=_Record)
    except (OSError, msgspec.DecodeError):
        return None


def _write_record(home: Home, record: _Record) -> None:
    whole_file.put(home.run / "supervisord.json", msgspec.json.encode(record))
