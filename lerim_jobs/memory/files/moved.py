"""Recognising a project whose folder was moved or renamed: by the ids in the memory files that went along."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from lerim_jobs.log.store import Store
from lerim_jobs.memory.files import folder as disk
from lerim_jobs.memory.files.markdown import BadFile, parse
from lerim_jobs.memory.files.states import files_of
from lerim_jobs.paths import memory_dir
from lerim_jobs.projects import Project

__all__ = ["is_gone", "moved_here", "moved_to"]

_MOST_FILES, _MOST_FOLDERS = 50, 200


def is_gone(project: Project) -> bool:
    """Whether nothing lies where the project's folder was."""
    return not os.path.lexists(project.path)


def moved_here(store: Store, folder: Path, projects: Iterable[Project]) -> Project | None:
    """The project that is gone and most of whose memories' files lie in this folder; None for none. `projects` are those of this
    host: another host's folders are never gone.
    """
    gone = {one.project_id: one for one in projects if is_gone(one)}
    ids = _ids(folder) if gone else []
    owners = Counter(state.project_id for state in files_of(store, ids).values())
    found, count = owners.most_common(1)[0] if owners else ("", 0)
    return gone.get(found) if 2 * count > len(ids) else None


def moved_to(store: Store, project: Project) -> Path | None:
    """Where a project that is gone seems to be now: the one folder beside the old one that has its memories' files."""
    beside = Path(project.path).parent
    try:
        folders = [one for one in islice(beside.iterdir(), _MOST_FOLDERS) if memory_dir(one).is_dir()]
    except OSError:
        return None
    found = [one for one in folders if moved_here(store, one, [project])]
    return found[0] if len(found) == 1 else None


def _ids(folder: Path) -> list[str]:
    """Ids that memory files in a folder name, of some of the files."""
    place = memory_dir(folder)
    ids = []
    for path in islice(sorted(disk.scan(place).files), _MOST_FILES):
        try:
            parsed = parse(disk.read(place, path))
        except OSError:
            continue
        if not isinstance(parsed, BadFile) and parsed.memory_id:
            ids.append(parsed.memory_id)
    return ids
