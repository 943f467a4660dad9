"""The records that workers and schedulers leave under `run/`, looked at without touching them."""

from __future__ import annotations

import fcntl
from pathlib import Path

import msgspec

from lerim_jobs.machine.processes import ProcessInfo
from lerim_jobs.paths import Home

__all__ = ["Record", "records"]


class Record(msgspec.Struct, frozen=True):
    """One record file. `alive`: its process holds the lock."""

    path: Path
    pid: int
    started_ms: int
    alive: bool


def records(home: Home, kind: str) -> list[Record]:
    """Those of `workers` or `schedulers`, unreadable ones as dead."""
    found = []
    for path in sorted((home.run / kind).glob("*.json")):
        try:
            with path.open("rb") as file:
                alive = not _free(file.fileno())
                info = msgspec.json.decode(file.read(), type=ProcessInfo)
            found.append(Record(path, info.pid, info.started_ms, alive))
        except FileNotFoundError:
            continue
        except (OSError, msgspec.DecodeError):
            found.append(Record(path, 0, 0, alive=False))
    return found


def _free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
