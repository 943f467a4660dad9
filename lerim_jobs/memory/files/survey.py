"""Comparing a project's files with what was published, cheaply: only files that look different from before are read."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

import msgspec

from lerim_jobs.clock import now_ns
from lerim_jobs.git.checkout import checkout_of
from lerim_jobs.ids import digest
from lerim_jobs.log.store import Store
from lerim_jobs.memory.files import folder as disk
from lerim_jobs.memory.files import looks
from lerim_jobs.memory.files.folder import Look, Scan
from lerim_jobs.memory.files.states import FileState, file_states
from lerim_jobs.paths import memory_dir
from lerim_jobs.projects import Project

__all__ = ["Survey", "needs_publish", "survey"]


class Survey(msgspec.Struct):
    """`changed` are the bytes of files that are not as published; `unread` why one could not be read; `missing` the ids
    of memories whose file was there and is surely gone. `nobodys` were read before, found to be no memory's, and look the same.
    """

    folder: Path
    states: dict[str, FileState]
    scan: Scan
    changed: dict[str, bytes] = {}
    unread: dict[str, str] = {}
    missing: set[str] = set()
    nobodys: set[str] = set()

    def is_nowhere(self, *, apart: Set[str] = frozenset()) -> bool:
        """The whole folder, or every single file of several, is gone: a fresh clone or a clean-up, nobody's wish to forget.
        Memories `apart` do not count.
        """
        here = {state.memory_id for state in self.states.values() if state.is_here} - apart
        return not self.scan.is_there or (len(here) > 1 and here <= self.missing)


def survey(store: Store, project: Project) -> Survey:
    """Look at the project's files and remember how they looked."""
    place = memory_dir(Path(project.path))
    found = Survey(place, file_states(store, project.project_id), disk.scan(place))
    looked_ns = now_ns()
    seen = looks.load(store, project.project_id)
    new: dict[str, tuple[Look, str] | None] = dict.fromkeys(path for path in seen if path not in found.scan.files)
    digests = {state.path: state.digest for state in found.states.values() if state.path}
    for path, look in found.scan.files.items():
        before = seen.get(path)
        if before and before[0] == look:
            if before[1] == digests.get(path):
                continue
            if before[1] == looks.LEFT_ALONE:
                found.nobodys.add(path)
        _read(found, path, digests.get(path), new)
    looks.save(store, project.project_id, new, now_ns=looked_ns)
    found.missing = {
        state.memory_id for state in found.states.values() if state.is_here and found.scan.knows_gone(state.path)
    }
    return found


def needs_publish(store: Store, project: Project) -> bool:
    """Whether a publish would find anything to do: for a sync that has nothing else to do in this project."""
    path = Path(project.path)
    if not path.is_dir():
        return False
    if project.checkout and checkout_of(memory_dir(path)).text not in ("", project.checkout):
        return True
    found = survey(store, project)
    if any(path not in found.nobodys for path in found.changed):
        return True
    return any(state.memory_id in found.missing or state.waits for state in found.states.values())


def _read(found: Survey, path: str, expected: str | None, new: dict[str, tuple[Look, str] | None]) -> None:
    try:
        data = disk.read(found.folder, path)
    except OSError as exc:
        found.unread[path] = f"unreadable: {exc.strerror}"
        return
    if (now := digest(data)) == expected:
        new[path] = (found.scan.files[path], now)
    else:
        found.changed[path] = data
