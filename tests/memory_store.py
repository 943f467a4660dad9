"""The event store in RAM: for unit tests and for trying things out; nothing survives the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from lerim_jobs.clock import now_ms
from lerim_jobs.errors import ConflictError, CorruptLog
from lerim_jobs.ids import digest
from lerim_jobs.log.codec import Recorded, encode, schema_of
from lerim_jobs.log.events import Event
from lerim_jobs.log.store import ANY, Identified, Rewriting, StageRow

__all__ = ["MemoryStore"]


class MemoryStore:
    """Keeps everything in lists and dicts; `clock` returns milliseconds and may be a test's own."""

    def __init__(self, clock: Callable[[], int] = now_ms) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._events: list[Recorded] = []
        self._ids: set[str] = set()
        self._stages: dict[tuple[str, str], StageRow] = {}
        self._docs: dict[tuple[str, str], bytes] = {}
        self._blobs: dict[str, bytes] = {}

    @contextmanager
    def write(self) -> Iterator[MemoryStore]:
        """The store is its own transaction; an exception restores what was there before."""
        with self._lock:
            before = (list(self._events), set(self._ids), dict(self._stages), dict(self._docs), dict(self._blobs))
            try:
                yield self
            except BaseException:
                self._events, self._ids, self._stages, self._docs, self._blobs = before
                raise

    # --- events ---
    def now_ms(self) -> int:
        return self._clock()

    def append(
        self,
        stream: str,
        events: Sequence[Event | Identified],
        *,
        expected: int = ANY,
        meta: Mapping[str, Any] | None = None,
    ) -> int:
        with self._lock:
            version = self.version(stream)
            if expected not in (ANY, version):
                raise ConflictError(f"{stream}: expected version {expected}, it is at {version}")
            rows = [self._recorded(stream, version + i, item, meta) for i, item in enumerate(events, 1)]
            ids = [row.id for row in rows]
            if self._ids.intersection(ids) or len(set(ids)) < len(ids):
                raise ConflictError(f"{stream}: an event with one of these ids exists already")
            self._events += rows
            self._ids.update(ids)
            return version + len(rows)

    def _recorded(
        self, stream: str, version: int, item: Event | Identified, meta: Mapping[str, Any] | None
    ) -> Recorded:
        event = item.event if isinstance(item, Identified) else item
        name = type(event).__name__
        return Recorded(
            position=len(self._events) + version - self.version(stream),
            id=item.id if isinstance(item, Identified) else f"{stream}:{version}",
            stream=stream,
            version=version,
            type=name,
            schema=schema_of(name),
            data=encode(event),
            meta=dict(meta or {}),
            at_ms=self._clock(),
        )

    def version(self, stream: str) -> int:
        return max((row.version for row in self._events if row.stream == stream), default=0)

    def read(self, stream: str, after: int = 0) -> list[Recorded]:
        return [row for row in self._events if row.stream == stream and row.version > after]

    def read_all(self, after: int = 0, limit: int = 1000, types: Sequence[str] | None = None) -> list[Recorded]:
        rows = (row for row in list(self._events) if row.position > after and (types is None or row.type in types))
        return [row for row, _ in zip(rows, range(limit), strict=False)]

    def position(self) -> int:
        return len(self._events)

    def tail(self, after: int, *, poll_s: float = 0.05) -> Iterator[list[Recorded]]:
        while True:
            batch = self.read_all(after)
            after = batch[-1].position if batch else after
            yield batch
            if not batch:
                time.sleep(poll_s)

    # --- blobs ---
    def put_blob(self, data: bytes) -> str:
        blob_hash = digest(data)
        self._blobs[blob_hash] = data
        return blob_hash

    def blob(self, blob_hash: str) -> bytes:
        try:
            return self._blobs[blob_hash]
        except KeyError:
            raise CorruptLog(f"blob {blob_hash} is not in the log") from None

    def drop_blob(self, blob_hash: str) -> None:
        self._blobs.pop(blob_hash, None)

    def blob_hashes(self, after: str = "", limit: int = 10_000) -> list[str]:
        return sorted(blob_hash for blob_hash in self._blobs if blob_hash > after)[:limit]

    # --- claim rows ---
    def stage(self, job_id: str, stage: str) -> StageRow | None:
        return self._stages.get((job_id, stage))

    def stages(self, job_id: str) -> list[StageRow]:
        return [row for row in self._stages.values() if row.job_id == job_id]

    job_stages = stages

    def lane(self, lane: str) -> list[StageRow]:
        return [row for row in self._stages.values() if row.lane == lane and row.state in ("ready", "running")]

    def save_stage(self, row: StageRow) -> None:
        self._stages[row.job_id, row.stage] = row

    def drop_stages(self, job_id: str) -> None:
        self._stages = {key: row for key, row in self._stages.items() if row.job_id != job_id}

    def due_stages(self, limit: int = 1000) -> list[StageRow]:
        rows = [row for row in list(self._stages.values()) if row.state in ("ready", "running")]
        return sorted(rows, key=lambda row: row.due_ms)[:limit]

    # --- read models ---
    def doc(self, view: str, key: str) -> bytes | None:
        return self._docs.get((view, key))

    def docs(self, view: str) -> list[tuple[str, bytes]]:
        return sorted((key, value) for (name, key), value in list(self._docs.items()) if name == view)

    def doc_views(self) -> list[str]:
        return sorted({view for view, _ in self._docs})

    def put_doc(self, view: str, key: str, value: bytes | None) -> None:
        if value is None:
            self._docs.pop((view, key), None)
        else:
            self._docs[view, key] = value

    def clear_docs(self, view: str) -> None:
        self._docs = {key: value for key, value in self._docs.items() if key[0] != view}

    # --- rewriting ---
    def rewrite(self, rewriting: Rewriting) -> None:
        with self.write() as tx:
            rewriting.begin(tx)
            moved: dict[str, str] = {}
            for old, data in list(self._blobs.items()):
                if (changed := rewriting.blob(data)) != data:
                    moved[old] = self.put_blob(changed)
                    self.drop_blob(old)
            self._events = [msgspec.structs.replace(row, data=rewriting.event(row, moved)) for row in self._events]
            for (view, key), value in list(self._docs.items()):
                self.put_doc(view, key, rewriting.document(view, key, value, moved))
            rewriting.end(tx)

    def close(self) -> None:
        """Nothing to close."""
