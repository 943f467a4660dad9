"""Leftovers on disk: half-written files and sockets nobody answers on."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lerim_jobs.audit.finding import Breach, Place
from lerim_jobs.paths import memory_dir
from lerim_jobs.projects import active_projects

__all__ = ["sockets", "temporary_files"]

Look = tuple[str, int, list[Breach]]
_ENDINGS = (".tmp", ".new", ".part")


def temporary_files(place: Place) -> Look:
    """Files are written beside their place and renamed: what a killed process left half-way."""
    count, found = 0, []
    for path in _files(place):
        count += 1
        temporary = path.suffix in _ENDINGS or path.name.startswith(".probe-")
        with suppress(OSError):
            if temporary and time.time() - path.stat().st_mtime > place.grace_s:
                found.append(Breach(str(path), "its writer never finished it"))
    return "files", count, found


def sockets(place: Place) -> Look:
    """In the state folder; a socket file without a server behind it."""
    paths = [path for folder in (place.home.run, place.home.redis) for path in folder.rglob("*.sock*")]
    dead = [path for path in paths if not _answers(path)]
    return "sockets", len(paths), [Breach(str(path), "no server listens on it") for path in dead]


def _files(place: Place) -> Iterator[Path]:
    yield from (path for path in place.home.run.rglob("*") if path.is_file())
    for project in active_projects(place.store).values():
        folder = memory_dir(Path(project.path))
        if project.host == place.host and folder.is_dir():
            yield from (path for path in folder.rglob("*") if path.is_file())


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(2.0)
        try:
            connection.connect(str(path))
        except TimeoutError:
            return True
        except OSError:
            return not path.exists()
    return True
