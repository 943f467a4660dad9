"""Which workers and schedulers run here, and starting a worker for the length of one command.

Each process keeps a record file under `run/`, locked while it lives: a lock that can be taken tells a dead process at
once, and the file goes with the next look.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

import msgspec

from lerim_jobs.clock import now_ms
from lerim_jobs.config import Settings
from lerim_jobs.errors import QueueUnavailable
from lerim_jobs.machine import embedded, identity, whole_file
from lerim_jobs.machine.own_environment import own_environment
from lerim_jobs.machine.termination import Known, descendants, end, runs
from lerim_jobs.paths import Home, make_private

__all__ = [
    "TEMPORARY",
    "WATCHED_PID",
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
"""Environment variable, `1` in processes that must end when who started them is gone."""

WATCHED_PID = "LERIM_WATCHED_PID"
"""Environment variable: who that is. Without it, the parent; for a worker child, the parent of its master."""

TEMPORARY = "LERIM_TEMPORARY_WORKER"
"""Environment variable, `1` in a worker that lives as long as one command: other commands must not count on it."""

_HARD_EXIT_S = 10.0
_WATCH_EVERY_S = 0.5

Kind = Literal["workers", "schedulers"]


class ProcessInfo(msgspec.Struct, frozen=True):
    """One running process of ours. `temporary`: it belongs to one command and ends with it."""

    host: str
    pid: int
    start: str
    started_ms: int
    queues: list[str] = []
    tracing: bool = False
    tracing_from: str = ""
    backends: list[str] = []
    temporary: bool = False
    parent: int = 0


class Registration:
    """Holds the record's lock as long as it is referenced; the file goes with `close` or with the next look.

    While it lives the embedded Redis counts as used.
    """

    def __init__(self, path: Path, file: IO[bytes], held: ExitStack) -> None:
        self._path, self._file, self._held = path, file, held

    def close(self) -> None:
        """Leave the list."""
        self._path.unlink(missing_ok=True)
        self._file.close()
        self._held.close()


def register_worker(
    home: Home, *, queues: Sequence[str], tracing: bool, tracing_from: str = "", backends: Sequence[str] = ()
) -> Registration:
    """Put this process on the list of workers while the returned value lives; `backends` get its spans."""
    return _register(home, "workers", queues=queues, tracing=tracing, tracing_from=tracing_from, backends=backends)


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

    def __init__(
        self, home: Home, env: Mapping[str, str], command: Sequence[str], *, boot_s: float, stop_s: float
    ) -> None:
        self._home, self._command = home, list(command)
        self._boot_s, self._stop_s = boot_s, stop_s
        self._env = {**env, WATCH_PARENT: "1", WATCHED_PID: str(os.getpid()), TEMPORARY: "1"}
        self._process = self._start()

    @property
    def died(self) -> bool:
        """Whether it ended without being asked to."""
        return self._process.poll() is not None

    def restart(self) -> None:
        """Start another one, after what is left of the last."""
        self.stop()
        self._process = self._start()

    def wait_ready(self) -> None:
        """Wait until its child is on the list. Raises QueueUnavailable when it ends or takes too long."""
        deadline = time.monotonic() + self._boot_s
        while not self._registered():
            if self.died or time.monotonic() > deadline:
                log = self._home.logs / "worker.log"
                raise QueueUnavailable(f"a worker does not start: {_last_line(log)} (see {str(log)!r})")
            time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM, a bounded wait, SIGKILL for what is left of it."""
        children = {*descendants(self._process.pid), *self._registered()}
        if not self.died:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(self._stop_s)
        self._process.kill()
        self._process.wait(self._stop_s)
        end(children, limit_s=1.0)

    def _registered(self) -> list[Known]:
        """Its worker processes: the children of the dramatiq master, or the process itself."""
        pid = self._process.pid
        return [Known(one.pid, one.start) for one in workers_running(self._home) if pid in (one.pid, one.parent)]

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._home.logs / "worker.log").open("ab") as log:
            # A session of its own: Ctrl-C reaches the command alone, which then stops the worker in order. In the state
            # folder, because `-m` looks into the current folder first, and a project may well have a `workers` package.
            return subprocess.Popen(
                self._command,
                env=own_environment(self._env),
                cwd=self._home.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@contextmanager
def temporary_worker(
    home: Home,
    settings: Settings,
    env: Mapping[str, str],
    *,
    command: Sequence[str] = (),
    boot_s: float = 90.0,
    stop_s: float = 10.0,
) -> Iterator[TemporaryWorker]:
    """Run a worker (`python -m workers`) for the length of the block; it may take `boot_s` to start and `stop_s` to stop."""
    command = command or [sys.executable, "-m", "workers"]
    worker = TemporaryWorker(home, env, command, boot_s=boot_s, stop_s=stop_s)
    try:
        worker.wait_ready()
        yield worker
    finally:
        worker.stop()


def watch_parent(env: Mapping[str, str]) -> None:
    """In a worker child: end soon after the master is gone, or with WATCH_PARENT also after who started the master.

    A killed supervisor or command must not leave workers behind. The master itself runs no code of ours, so its
    children watch on its behalf.
    """
    parent, above, named = os.getppid(), 0, env.get(WATCHED_PID, "")
    if env.get(WATCH_PARENT) == "1":
        above = int(named) if named.isdigit() else _parent_of(parent)
    threading.Thread(target=_watch, args=(parent, above), name="parent", daemon=True).start()


def _watch(parent: int, above: int) -> None:
    watched = Known(above, identity.started_at(above)) if above else None
    while os.getppid() == parent and (watched is None or _may_run(watched)):
        time.sleep(_WATCH_EVERY_S)
    # The master ends with its child, so this process is the only one that needs the signal.
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_HARD_EXIT_S)
    os._exit(1)


def _may_run(process: Known) -> bool:
    try:
        return runs(process)
    except OSError:
        return True


def _parent_of(pid: int) -> int:
    import psutil

    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return -1


def _last_line(log: Path) -> str:
    with suppress(OSError):
        lines = log.read_text("utf-8", "replace")[-2000:].split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
    return "it said nothing"


def _register(
    home: Home,
    kind: Kind,
    *,
    queues: Sequence[str] = (),
    tracing: bool = False,
    tracing_from: str = "",
    backends: Sequence[str] = (),
) -> Registration:
    folder = home.run / kind
    make_private(folder)
    info = ProcessInfo(
        host=identity.host_name(),
        pid=os.getpid(),
        start=identity.started_at(os.getpid()),
        started_ms=now_ms(),
        queues=list(queues),
        tracing=tracing,
        tracing_from=tracing_from,
        backends=list(backends),
        temporary=os.environ.get(TEMPORARY) == "1",
        parent=os.getppid(),
    )
    # The random part: containers may share host name, folder and process numbers.
    path = folder / f"{info.host}-{info.pid}-{secrets.token_hex(3)}.json"
    # Written and locked under another name first, so that no reader sees it unlocked and takes it for a dead one's.
    hidden = whole_file.beside(path)
    file = hidden.open("wb")
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(msgspec.json.encode(info))
    file.flush()
    hidden.replace(path)
    held = ExitStack()
    held.enter_context(embedded.hold(home))
    return Registration(path, file, held)


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
