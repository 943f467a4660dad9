"""Making everything that is derived from the log anew: read models, what jobs count beside it, the search index."""

from __future__ import annotations

import msgspec

from lerim_jobs.care.derived import COUNTED, VIEWS
from lerim_jobs.care.shrink import compact
from lerim_jobs.errors import ConflictError
from lerim_jobs.jobs.retention import drop_orphans
from lerim_jobs.log.projection import rebuild
from lerim_jobs.log.store import Store
from lerim_jobs.machine.locks import exclusive_now
from lerim_jobs.memory.search import index_file
from lerim_jobs.memory.search.index import SearchIndex
from lerim_jobs.paths import Home

__all__ = ["Rebuilt", "compact_all", "rebuild_all"]


class Rebuilt(msgspec.Struct, frozen=True):
    """Documents by read model, and what was not as the log says: nothing, unless it was damaged."""

    events: int
    documents: dict[str, int]
    memories_indexed: int
    changed: list[str]


def rebuild_all(store: Store, home: Home) -> Rebuilt:
    """Throw it all away and make it anew from the log. Safe while workers run: each catches up what is missing."""
    changed = [view.name for view in VIEWS if rebuild(store, view)]
    changed += [name for name, recount in COUNTED.values() if recount(store)]
    documents = {view.name: len(store.docs(view.name)) for view in VIEWS}
    return Rebuilt(store.position(), documents, _reindex(store, home), changed)


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
