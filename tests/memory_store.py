"""The event store in RAM: for unit tests and for trying things out; nothing survives the process."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec

from lerim_jobs.clock import now_ms
from lerim_jobs.errors import ConflictError, CorruptLog
from lerim_jobs.ids import digest
from lerim_jobs.log.codec import Recorded, encode_checked, schema_of
from lerim_jobs.log.events import Event
from lerim_jobs.log.store import ALL, ANY, Edge, Identified, Rewriting, StageCount, StageRow, StageState

__all__ = ["MemoryStore"]


class MemoryStore:
    """Keeps everything in lists and dicts; `clock` returns milliseconds and may be a test's own."""

    def __init__(self, clock: Callable[[], int] = now_ms) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._events: list[Recorded] = []
        self._ids: set[str] = set()
        self._stages: dict[tuple[str, str], StageRow] = {}
        self._edges: set[tuple[str, Edge]] = set()
        self._docs: dict[tuple[str, str], bytes] = {}
        self._blobs: dict[str, bytes] = {}

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[MemoryStore]:
        """The store is its own transaction; an exception restores what was there before."""
        with self._lock:
            before = (
                list(self._events),
                set(self._ids),
                dict(self._stages),
                dict(self._docs),
                dict(self._blobs),
                set(self._edges),
            )
            try:
                yield self
            except BaseException:
                self._events, self._ids, self._stages, self._docs, self._blobs, self._edges = before
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
            data=encode_checked(event),
            meta=dict(meta or {}),
            at_ms=self._clock(),
        )

    def version(self, stream: str) -> int:
        return max((row.version for row in self._events if row.stream == stream), default=0)

    def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Recorded]:
        return [row for row in self._events if row.stream == stream and row.version > after][:limit]

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

    def stages(self, job_id: str, name: str | None = None) -> list[StageRow]:
        rows = [row for row in self._stages.values() if row.job_id == job_id]
        return [row for row in rows if name in (None, row.stage.partition(":")[0])]

    def has_stages(self, job_id: str) -> bool:
        return any(key[0] == job_id for key in self._stages)

    def open_jobs(self) -> list[str]:
        return sorted({job_id for job_id, _ in self._stages})

    def lane(self, lane: str) -> list[StageRow]:
        return [row for row in self._stages.values() if row.lane == lane and row.state in ("ready", "running")]

    def add_stages(self, rows: Sequence[StageRow], edges: Sequence[Edge]) -> None:
        for row in rows:
            if (row.job_id, row.stage) in self._stages:
                raise ConflictError(f"a stage of job {row.job_id!r} exists already")
            self._stages[row.job_id, row.stage] = row
        self._edges |= {(rows[0].job_id, edge) for edge in edges}

    def save_stage(self, row: StageRow) -> None:
        old = self._stages[row.job_id, row.stage]
        self._stages[row.job_id, row.stage] = msgspec.structs.replace(row, input=old.input)

    def after(self, job_id: str, stage: str) -> list[Edge]:
        edges = [edge for job, edge in self._edges if job == job_id]
        return sorted(edge for edge in edges if edge.before in (stage, ALL) and edge.after != stage)

    def before(self, job_id: str, stage: str) -> list[Edge]:
        return sorted(edge for job, edge in self._edges if job == job_id and edge.after == stage)

    def count_open(self, job_id: str, stage: str, by: int) -> StageRow | None:
        row = self._stages.get((job_id, stage))
        if row is not None:
            row = msgspec.structs.replace(row, open_needs=row.open_needs + by)
            self._stages[job_id, stage] = row
        return row

    def drop_stages(self, job_id: str) -> None:
        self._stages = {key: row for key, row in self._stages.items() if row.job_id != job_id}
        self._edges = {(job, edge) for job, edge in self._edges if job != job_id}

    def running_stages(self) -> list[StageRow]:
        rows = [row for row in list(self._stages.values()) if row.state == "running"]
        return sorted(rows, key=lambda row: row.lease_until_ms)

    def ready_stages(
        self, queue: str, *, sent_before_ms: int, limit: int, after: tuple[int, str, str] = (-1, "", "")
    ) -> list[StageRow]:
        now = self._clock()
        rows = [row for row in list(self._stages.values()) if (row.state, row.queue) == ("ready", queue)]
        rows = [row for row in rows if row.due_ms <= now and row.sent_ms < sent_before_ms]
        by_sent = sorted(((row.sent_ms, row.job_id, row.stage), row) for row in rows)
        return [row for key, row in by_sent if key > after][:limit]

    def far_stages(self, due_after_ms: int) -> list[StageRow]:
        rows = [row for row in list(self._stages.values()) if row.state == "ready"]
        return [row for row in rows if max(row.due_ms, row.sent_ms) > due_after_ms]

    def count_stages(self, job_id: str | None = None, state: StageState | None = None) -> list[StageCount]:
        now = self._clock()
        rows = [row for row in list(self._stages.values()) if job_id in (None, row.job_id)]
        rows = [row for row in rows if state in (None, row.state)]
        found = Counter((row.queue, row.state, row.due_ms <= now) for row in rows)
        return [StageCount(*key, count) for key, count in sorted(found.items())]

    # --- read models ---
    def doc(self, view: str, key: str) -> bytes | None:
        return self._docs.get((view, key))

    def docs(self, view: str, prefix: str = "") -> list[tuple[str, bytes]]:
        found = ((key, value) for (name, key), value in list(self._docs.items()) if name == view)
        return sorted((key, value) for key, value in found if key.startswith(prefix))

    def doc_views(self) -> list[str]:
        return sorted({view for view, _ in self._docs})

    def has_doc(self, view: str, keys: Sequence[str]) -> bool:
        return any((view, key) in self._docs for key in keys)

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
