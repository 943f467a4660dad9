"""Which workers and schedulers run here, and starting a worker for the length of one command.

Each process keeps a record file under `run/`, locked while it lives: a lock that can be taken tells a dead process at
once, and the file goes with the next look.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

import msgspec

from lerim_jobs.clock import now_ms
from lerim_jobs.config import Settings
from lerim_jobs.errors import QueueUnavailable
from lerim_jobs.paths import Home
from lerim_jobs.queue import identity

__all__ = [
    "WATCH_PARENT",
    "ProcessInfo",
    "TemporaryWorker",
    "register_scheduler",
    "register_worker",
    "schedulers_running",
    "temporary_worker",
    "watch_parent",
    "workers_running",
]

WATCH_PARENT = "LERIM_WATCH_PARENT"
"""Environment variable: end when the parent process is gone."""

_BOOT_S = 30.0
_STOP_S = 12.0
_HARD_EXIT_S = 10.0

Kind = Literal["workers", "schedulers"]


class ProcessInfo(msgspec.Struct, frozen=True):
    """One running process of ours."""

    host: str
    pid: int
    start: str
    started_ms: int
    queues: list[str] = []
    tracing: bool = False


class Registration:
    """Holds the record's lock as long as it is referenced; the file goes with `close` or with the next look."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path, self._file = path, file

    def close(self) -> None:
        """Leave the list."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def register_worker(home: Home, *, queues: Sequence[str], tracing: bool) -> Registration:
    """Put this process on the list of workers while the returned value lives."""
    return _register(home, "workers", queues=queues, tracing=tracing)


def register_scheduler(home: Home, *, tracing: bool = False) -> Registration:
    """Put this process on the list of schedulers while the returned value lives."""
    return _register(home, "schedulers", tracing=tracing)


def workers_running(home: Home) -> list[ProcessInfo]:
    """Workers of this state folder on this machine, by pid."""
    return _running(home, "workers")


def schedulers_running(home: Home) -> list[ProcessInfo]:
    """Schedulers of this state folder on this machine, by pid."""
    return _running(home, "schedulers")


class TemporaryWorker:
    """A worker that lives as long as one command. `restart` starts another when it died."""

    def __init__(self, home: Home, env: Mapping[str, str], command: Sequence[str]) -> None:
        self._home, self._env, self._command = home, {**env, WATCH_PARENT: "1"}, list(command)
        self._process = self._start()

    @property
    def died(self) -> bool:
        """Whether it ended without being asked to."""
        return self._process.poll() is not None

    def restart(self) -> None:
        """Start another one."""
        self._process = self._start()

    def wait_ready(self) -> None:
        """Wait until its child is on the list. Raises QueueUnavailable when it ends or takes too long."""
        deadline = time.monotonic() + _BOOT_S
        while not workers_running(self._home):
            if self.died or time.monotonic() > deadline:
                raise QueueUnavailable(f"a worker does not start: see {str(self._home.logs / 'worker.log')!r}")
            time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM, a bounded wait, SIGKILL for what is left of it."""
        children = _children(self._process.pid)
        if not self.died:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_S)
        for pid, start in [(self._process.pid, ""), *children]:
            if identity.started_at(pid) and (not start or identity.still_runs(pid, start)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._process.wait(_STOP_S)

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._home.logs / "worker.log").open("ab") as log:
            # A session of its own: Ctrl-C reaches the command alone, which then stops the worker in order.
            return subprocess.Popen(
                self._command, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )


@contextmanager
def temporary_worker(
    home: Home, settings: Settings, env: Mapping[str, str], *, command: Sequence[str] = ()
) -> Iterator[TemporaryWorker]:
    """Run a worker (`python -m workers`) for the length of the block."""
    worker = TemporaryWorker(home, env, command or [sys.executable, "-m", "workers"])
    try:
        worker.wait_ready()
        yield worker
    finally:
        worker.stop()


def watch_parent(env: Mapping[str, str]) -> None:
    """In a worker child: end soon after the master, or the master's own parent, is gone. Off without WATCH_PARENT.

    A killed supervisor or command must not leave workers behind. The master itself runs no code of ours, so its
    children watch on its behalf.
    """
    master = os.getppid()
    above = _parent_of(master) if env.get(WATCH_PARENT) == "1" else 0
    threading.Thread(target=_watch, args=(master, above), name="parent", daemon=True).start()


def _watch(master: int, above: int) -> None:
    while os.getppid() == master:
        if above and _parent_of(master) != above:
            with suppress(ProcessLookupError):
                os.kill(master, signal.SIGTERM)
            above = 0
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_HARD_EXIT_S)
    os._exit(1)


def _parent_of(pid: int) -> int:
    import psutil

    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return -1


def _children(pid: int) -> list[tuple[int, str]]:
    import psutil

    try:
        return [(child.pid, identity.started_at(child.pid)) for child in psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return []


def _register(home: Home, kind: Kind, *, queues: Sequence[str] = (), tracing: bool = False) -> Registration:
    folder = home.run / kind
    folder.mkdir(mode=0o700, exist_ok=True)
    pid = os.getpid()
    info = ProcessInfo(identity.host_name(), pid, identity.started_at(pid), now_ms(), list(queues), tracing)
    path = folder / f"{identity.host_name()}-{pid}.json"
    # Written and locked under another name first, so that no reader sees it unlocked and takes it for a dead one's.
    hidden = path.with_suffix(".new")
    file = hidden.open("wb")
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(msgspec.json.encode(info))
    file.flush()
    hidden.replace(path)
    return Registration(path, file)


def _running(home: Home, kind: Kind) -> list[ProcessInfo]:
    found = []
    for path in sorted((home.run / kind).glob("*.json")):
        with suppress(OSError, msgspec.DecodeError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(msgspec.json.decode(file.read(), type=ProcessInfo))
            else:
                path.unlink(missing_ok=True)
    return sorted(found, key=lambda info: info.pid)
