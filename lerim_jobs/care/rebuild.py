"""Making everything that is derived from the log anew: read models, sums of money, the search index."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from lerim_jobs.care.shrink import compact
from lerim_jobs.errors import ConflictError
from lerim_jobs.jobs import budget
from lerim_jobs.jobs.line import JOBS
from lerim_jobs.jobs.retention import drop_orphans
from lerim_jobs.log.projection import View, catch_up, rebuild
from lerim_jobs.log.store import Store
from lerim_jobs.machine.locks import exclusive_now
from lerim_jobs.memory.search import index_file
from lerim_jobs.memory.search.index import SearchIndex
from lerim_jobs.memory.stored import MEMORIES
from lerim_jobs.paths import Home
from lerim_jobs.projects import PROJECTS
from lerim_jobs.sessions.session import SESSIONS

__all__ = ["VIEWS", "Rebuilt", "compact_all", "rebuild_all"]

VIEWS: tuple[View[Any], ...] = (JOBS, SESSIONS, MEMORIES, PROJECTS)
"""Every read model. What was published as which file is part of the projects."""


class Rebuilt(msgspec.Struct, frozen=True):
    """Documents by read model, and those whose documents are other ones than before: always none, or it was damaged."""

    events: int
    documents: dict[str, int]
    memories_indexed: int
    changed: list[str]


def rebuild_all(store: Store, home: Home) -> Rebuilt:
    """Throw it all away and make it anew from the log. Safe while workers run: each catches up what is missing."""
    documents: dict[str, int] = {}
    changed: list[str] = []
    for view in VIEWS:
        catch_up(store, view)
        before = _digest(store, view)
        rebuild(store, view)
        documents[view.name] = len(store.docs(view.name))
        if _digest(store, view) != before:
            changed.append(view.name)
    budget.recount(store)
    return Rebuilt(store.position(), documents, _reindex(store, home), changed)


def _digest(store: Store, view: View[Any]) -> str:
    found = hashlib.sha256()
    for key, value in store.docs(view.name):
        found.update(key.encode() + b"\0" + value + b"\0")
    return found.hexdigest()


def _reindex(store: Store, home: Home) -> int:
    index_file.removed(home.search)
    index = SearchIndex(home.search, store)
    index.catch_up()
    found = len(index.known(["memory_id"]))
    index.close()
    return found


def compact_all(store: Store, home: Home) -> dict[str, int]:
    """Drop blobs that nothing names and write the files anew; bytes saved by file. Raises ConflictError while work goes on."""
    with exclusive_now(home.run / "redis.users") as alone:
        if not alone:
            raise ConflictError("workers or commands are running: `lerim down` first, then compact")
        drop_orphans(store)
        return {path.name: compact(path) for path in (home.log, home.traces) if path.exists()}
