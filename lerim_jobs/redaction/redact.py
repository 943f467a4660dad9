"""One redaction from the first look to the last: count, remove from the log, then from everything beside it, then look again.

The order matters. Hand edits first become events, so that no file knows more than the log; the log is changed in one
transaction; whatever a crash leaves behind beside it is found by running the same redaction once more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lerim_jobs.errors import BadInput
from lerim_jobs.ids import digest
from lerim_jobs.log.events import (
    MemoryAdded,
    MemoryEdited,
    MemoryReverted,
    MemoryUpdated,
    ProjectPublished,
    PublishedFile,
    Quote,
)
from lerim_jobs.log.projection import fold_all
from lerim_jobs.log.scan import readable, scan
from lerim_jobs.log.store import Store
from lerim_jobs.machine import identity
from lerim_jobs.memory.memory import fold
from lerim_jobs.memory.search import index_file
from lerim_jobs.memory.stored import memory_stream
from lerim_jobs.paths import Home
from lerim_jobs.projects import PROJECTS, active_projects
from lerim_jobs.redaction import aside
from lerim_jobs.redaction import needles as looking
from lerim_jobs.redaction.needles import Needles
from lerim_jobs.redaction.places import files_below, rename_files, scrub_files, scrub_spans
from lerim_jobs.redaction.remains import Left, leftovers
from lerim_jobs.redaction.rewriting import LogRedaction
from lerim_jobs.redaction.scrubbing import Scrubber

__all__ = ["Counted", "Redaction", "Removed"]

_FLUSH_MS = 3000
"""How long after its last event a worker may still be writing spans."""

_DATABASES = frozenset({"redis"})
_META = {"actor": "cli"}


class Counted(msgspec.Struct, frozen=True):
    """What a redaction would remove: pieces of text, in so many events and blobs of the log."""

    hits: int
    events: int
    blobs: int
    kept: int


class Removed(msgspec.Struct, frozen=True):
    """What was removed and where something still stands. `kept`: names, ids and folders that had to stay."""

    hits: int
    events: int
    blobs: int
    spans: int
    files: int
    kept: int
    left: list[Left]


class Redaction:
    """Made for a memory or for a pattern; `count` changes nothing, `apply` removes."""

    def __init__(
        self, store: Store, home: Home, needles: Needles, *, memory_id: str | None = None, pattern: str | None = None
    ) -> None:
        self._store, self._home, self._needles, self._memory_id = store, home, needles, memory_id
        self._pattern_hash = digest(pattern) if pattern else None
        self._renamed: set[str] = set()

    @classmethod
    def of_memory(cls, store: Store, home: Home, memory_id: str) -> Redaction:
        """Everything the memory ever said. Raises BadInput."""
        stream = memory_stream(memory_id)
        rows = store.read(stream)
        memory = fold(rows)
        if memory is None:
            raise BadInput(f"there is no memory {memory_id!r}")
        if memory.status == "redacted":
            raise BadInput(f"{memory_id} was redacted before: nothing of it is left to look for")
        texts: list[str] = []
        quotes: list[Quote] = []
        for row in readable((*rows, *aside.said_of(home, stream))):
            event = row.event
            if isinstance(event, MemoryAdded | MemoryUpdated | MemoryEdited | MemoryReverted):
                texts += [event.title, event.body]
                quotes += [] if isinstance(event, MemoryEdited) else event.quotes
        return cls(store, home, looking.of_texts(texts, quotes, memory_id), memory_id=memory_id)

    @classmethod
    def of_pattern(cls, store: Store, home: Home, pattern: str) -> Redaction:
        """Everything a regular expression matches. Raises BadInput."""
        return cls(store, home, looking.of_pattern(pattern), pattern=pattern)

    def count(self) -> Counted:
        """Look through the log and those that lie aside; what a pattern matches is remembered, to be found escaped as well."""
        scrubber = Scrubber(self._needles)
        log = self._log(scrubber, change=False)
        self._store.rewrite(log)
        aside.look(self._home, scrubber, self._memory_id)
        if self._needles.pattern:
            self._needles = looking.of_literals(self._needles, scrubber.removed)
        return Counted(scrubber.hits, log.events, log.blobs, scrubber.kept)

    def apply(self, publish: Callable[[Iterable[str]], Any]) -> Removed:
        """Remove; `publish` brings the files of projects up to date. Raises ConflictError while stages run."""
        self._let_spans_arrive()
        publish(active_projects(self._store))
        self.count()
        projects, published = fold_all(self._store, PROJECTS), self._published()
        scrubber = Scrubber(self._needles)
        log = self._log(scrubber, change=True)
        self._store.rewrite(log)
        # A cache: the next search makes it again from the log.
        index_file.removed(self._home.search)
        spans = scrub_spans(self._home.traces, scrubber)
        folders = {key: Path(project.path) / ".lerim" for key, project in projects.items()}
        files = 0
        for key, folder in folders.items():
            # Before anything is published: what stands in an edited file would come back as somebody's edit.
            ours = rename_files(folder / "memory", published.get(key, {}), self._renamed)
            files += scrub_files(folder, scrubber, published=ours)
        publish(active_projects(self._store))
        files += sum(scrub_files(folder, scrubber) for folder in folders.values())
        files += scrub_files(self._home.root, scrubber, skip=self._databases(), in_place=True)
        old = aside.clean(
            self._home, self._needles, memory_id=self._memory_id, pattern_hash=self._pattern_hash, meta=_META
        )
        left = self._left((*folders.values(), self._home.root), old.failed)
        hits, kept = scrubber.hits + old.hits, scrubber.kept + old.kept
        return Removed(hits, log.events, log.blobs, spans, files + old.files, kept, left)

    def _left(self, folders: Iterable[Path], failed: Mapping[str, str]) -> list[Left]:
        stores = (self._home.log, self._home.traces, *aside.stores(self._home))
        rewritten = frozenset(path for path in stores if str(path) not in failed)
        files = (path for folder in folders for path in files_below(folder))
        return leftovers(files, self._needles, rewritten=rewritten, failed=failed)

    def _log(self, scrubber: Scrubber, *, change: bool) -> LogRedaction:
        return LogRedaction(
            scrubber,
            running=self._store.running_stages,
            alive=identity.alive,
            change=change,
            renamed=self._renamed,
            memory_id=self._memory_id,
            pattern_hash=self._pattern_hash,
            meta=_META,
        )

    def _published(self) -> dict[str, dict[str, PublishedFile]]:
        """The newest file of each memory, by project; also of projects that are registered no more."""
        found: dict[str, dict[str, PublishedFile]] = {}
        for row in scan(self._store, (ProjectPublished.__name__,)):
            event = row.as_(ProjectPublished)
            found.setdefault(event.project_id, {}).update({file.memory_id: file for file in event.files})
        return {key: {one: file for one, file in files.items() if file.path} for key, files in found.items()}

    def _databases(self) -> frozenset[str]:
        """Files that are no text, or that were dealt with otherwise."""
        stems = (self._home.log.name, self._home.traces.name, self._home.search.name)
        names = (path.name for path in self._home.root.iterdir() if path.name.startswith(stems))
        return _DATABASES | frozenset(names)

    def _let_spans_arrive(self) -> None:
        newest = self._store.read_all(max(0, self._store.position() - 1), 1)
        quiet_ms = self._store.now_ms() - newest[-1].at_ms if newest else _FLUSH_MS
        if 0 <= quiet_ms < _FLUSH_MS:
            time.sleep((_FLUSH_MS - quiet_ms) / 1000)
