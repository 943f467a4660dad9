"""What every event store can do; `memory.py` and `sqlite.py` do it, and one contract suite checks them.

A write transaction is exclusive among all writers, so read-then-write inside `with store.write() as tx` is safe.
Claims and read models are plain rows beside the events and change in the same transaction; their rules live in
`jobs/claims.py` and `views/`, never here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

import msgspec

from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import Event

__all__ = ["ANY", "BLOB_OVER_BYTES", "Identified", "StageRow", "StageState", "Store", "Tx"]

ANY = -1
"""Append whatever the stream's version is."""

BLOB_OVER_BYTES = 16_384
"""A payload above this size is stored as a blob and named by its hash."""

StageState = Literal["waiting", "ready", "running", "done", "dead", "skipped"]


class Identified(msgspec.Struct, frozen=True):
    """An event with a deterministic id: appending the same id twice raises ConflictError."""

    id: str
    event: Event


class StageRow(msgspec.Struct, frozen=True):
    """A stage's claim state. Times are the store's own clock in ms; `lease_until_ms` only while running.

    `attempt` numbers every claim; `strikes` counts only those that failed or died, so a stage handed back by a stopping
    worker is not punished for it.
    """

    job_id: str
    stage: str
    queue: str
    state: StageState
    needs: list[str] = []
    after: list[str] = []
    lane: str | None = None
    host: str | None = None
    attempt: int = 0
    owner: str | None = None
    lease_until_ms: int = 0
    due_ms: int = 0
    sent_ms: int = 0
    strikes: int = 0


class Tx(Protocol):
    """One exclusive write transaction."""

    def now_ms(self) -> int:
        """The store's clock: the only one leases are measured by."""
        ...

    def append(
        self,
        stream: str,
        events: Sequence[Event | Identified],
        *,
        expected: int = ANY,
        meta: Mapping[str, Any] | None = None,
    ) -> int:
        """Append in order and return the stream's new version. Raises ConflictError."""
        ...

    def version(self, stream: str) -> int:
        """The stream's newest version, 0 when it does not exist."""
        ...

    def read(self, stream: str, after: int = 0) -> list[Recorded]:
        """Events of the stream with version > after, this transaction's own included."""
        ...

    def stage(self, job_id: str, stage: str) -> StageRow | None: ...

    def stages(self, job_id: str) -> list[StageRow]:
        """All stages of the job in the order they were saved first."""
        ...

    def lane(self, lane: str) -> list[StageRow]:
        """Ready and running stages of the lane, over all jobs, in the order they were saved first."""
        ...

    def save_stage(self, row: StageRow) -> None: ...

    def drop_stages(self, job_id: str) -> None:
        """Forget the claim rows of a finished job."""
        ...

    def put_blob(self, data: bytes) -> str:
        """Store bytes under their SHA-256 (hex) and return it. Idempotent."""
        ...

    def drop_blob(self, blob_hash: str) -> None:
        """Forget a blob; no error when it is not there."""
        ...

    def doc(self, view: str, key: str) -> bytes | None: ...

    def put_doc(self, view: str, key: str, value: bytes | None) -> None:
        """Write one document of a read model; None deletes it."""
        ...

    def clear_docs(self, view: str) -> None: ...


class Store(Protocol):
    """An event store. Thread-safe: each thread has its own connection underneath."""

    def write(self) -> AbstractContextManager[Tx]:
        """Open a write transaction; an exception rolls everything back. Raises StoreUnavailable."""
        ...

    def append(
        self,
        stream: str,
        events: Sequence[Event | Identified],
        *,
        expected: int = ANY,
        meta: Mapping[str, Any] | None = None,
    ) -> int:
        """`Tx.append` in a transaction of its own."""
        ...

    def read(self, stream: str, after: int = 0) -> list[Recorded]: ...

    def read_all(self, after: int = 0, limit: int = 1000, types: Sequence[str] | None = None) -> list[Recorded]:
        """Events of all streams with position > after, in order; `types` keeps only these."""
        ...

    def position(self) -> int:
        """The newest position, 0 when empty."""
        ...

    def tail(self, after: int, *, poll_s: float = 0.05) -> Iterator[list[Recorded]]:
        """Batches of new events for ever; an empty batch after each quiet poll, so that callers can stop."""
        ...

    def put_blob(self, data: bytes) -> str:
        """Store bytes under their SHA-256 (hex) and return it. Idempotent."""
        ...

    def blob(self, blob_hash: str) -> bytes:
        """Raises CorruptLog when it is not there."""
        ...

    def blob_hashes(self) -> list[str]:
        """Of every blob, in no order."""
        ...

    def due_stages(self, limit: int = 1000) -> list[StageRow]:
        """Stages that are `ready` or `running`, oldest due first: what a sweep looks at."""
        ...

    def job_stages(self, job_id: str) -> list[StageRow]: ...

    def doc(self, view: str, key: str) -> bytes | None: ...

    def docs(self, view: str) -> list[tuple[str, bytes]]:
        """All documents of a view, sorted by key."""
        ...

    def now_ms(self) -> int: ...

    def close(self) -> None: ...
