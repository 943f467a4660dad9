"""What every event store can do; `sqlite.py` does it, so does the one of the tests, and one contract suite checks them.

A write transaction is exclusive among all writers, so read-then-write inside `with store.write() as tx` is safe.
Claims and read models are plain rows beside the events and change in the same transaction; their rules live in
`jobs/claims.py` and in the read models of each room, never here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import Event

__all__ = [
    "ALL",
    "ANY",
    "BLOB_OVER_BYTES",
    "Edge",
    "Identified",
    "Rewriting",
    "StageCount",
    "StageRow",
    "StageState",
    "Store",
    "Tx",
]

ANY = -1
"""Append whatever the stream's version is."""

BLOB_OVER_BYTES = 16_384
"""An output above this size is stored as a blob and named by its hash."""

ALL = "*"
"""Stands for every other stage of a job, those that join its plan later included."""

StageState = Literal["waiting", "ready", "running", "parked", "done", "dead", "skipped"]


class Identified(msgspec.Struct, frozen=True):
    """An event with a deterministic id: appending the same id twice raises ConflictError."""

    id: str
    event: Event


class StageRow(msgspec.Struct, frozen=True):
    """A stage's claim state. Times are the store's own clock in ms; `lease_until_ms` only while running.

    `attempt` numbers every claim; `strikes` counts only those that failed or died, so a stage handed back by a stopping
    worker is not punished for it. `open_needs` counts the stages before it that are not settled; `outcome` is the version, in
    the job's stream, of the event that settled it.
    """

    job_id: str
    stage: str
    queue: str
    state: StageState
    lane: str | None = None
    host: str | None = None
    attempt: int = 0
    owner: str | None = None
    lease_until_ms: int = 0
    due_ms: int = 0
    sent_ms: int = 0
    strikes: int = 0
    open_needs: int = 0
    outcome: int | None = None
    input: bytes = b"{}"
    """What the plan gave the stage, as JSON. Written once."""


class Edge(NamedTuple):
    """`after` waits for `before` (a stage, or ALL). `needed`: when that is dead or skipped, `after` is skipped too."""

    before: str
    after: str
    needed: bool


class StageCount(NamedTuple):
    """How many stages of a queue are in a state; of ready ones `due` says whether their time has come."""

    queue: str
    state: StageState
    due: bool
    stages: int


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
        """Append in order and return the stream's new version. Raises ConflictError, and BadEvent for what nobody could read."""
        ...

    def version(self, stream: str) -> int:
        """The stream's newest version, 0 when it does not exist."""
        ...

    def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Recorded]:
        """Events of the stream with version > after, this transaction's own included; at most `limit`."""
        ...

    def read_all(self, after: int = 0, limit: int = 1000, types: Sequence[str] | None = None) -> list[Recorded]:
        """As `Store.read_all`, this transaction's own events included."""
        ...

    def stage(self, job_id: str, stage: str) -> StageRow | None: ...

    def stages(self, job_id: str, name: str | None = None) -> list[StageRow]:
        """The stages of a job, or those of one family, in the order they were added."""
        ...

    def has_stages(self, job_id: str) -> bool:
        """Whether the job goes on: claim rows are dropped when it ends."""
        ...

    def open_jobs(self) -> list[str]:
        """Ids of the jobs that go on, sorted."""
        ...

    def lane(self, lane: str) -> list[StageRow]:
        """Ready and running stages of the lane, over all jobs, in the order they were added."""
        ...

    def add_stages(self, rows: Sequence[StageRow], edges: Sequence[Edge]) -> None:
        """Add rows of one job, and what waits for what in it. Raises ConflictError for a stage that is there."""
        ...

    def save_stage(self, row: StageRow) -> None:
        """Change a row that is there; its input stays."""
        ...

    def after(self, job_id: str, stage: str) -> list[Edge]:
        """What waits for the stage, edges from ALL included but no stage's own."""
        ...

    def before(self, job_id: str, stage: str) -> list[Edge]:
        """What the stage waits for."""
        ...

    def count_open(self, job_id: str, stage: str, by: int) -> StageRow | None:
        """Change `open_needs` of a stage and return its row."""
        ...

    def drop_stages(self, job_id: str) -> None:
        """Forget claim rows and edges of a finished job."""
        ...

    def put_blob(self, data: bytes) -> str:
        """Store bytes under their SHA-256 (hex) and return it. Idempotent."""
        ...

    def blob(self, blob_hash: str) -> bytes:
        """Raises CorruptLog when it is not there."""
        ...

    def drop_blob(self, blob_hash: str) -> None:
        """Forget a blob; no error when it is not there."""
        ...

    def doc(self, view: str, key: str) -> bytes | None: ...

    def docs(self, view: str) -> list[tuple[str, bytes]]:
        """All documents of a view, sorted by key."""
        ...

    def has_doc(self, view: str, keys: Sequence[str]) -> bool:
        """Whether there is a document under one of the keys."""
        ...

    def put_doc(self, view: str, key: str, value: bytes | None) -> None:
        """Write one document of a read model; None deletes it."""
        ...

    def clear_docs(self, view: str) -> None: ...


class Rewriting(Protocol):
    """What `Store.rewrite` asks about everything that is stored, in this order. Raising anywhere changes nothing."""

    def begin(self, tx: Tx) -> None:
        """Look whether it may be done."""
        ...

    def blob(self, data: bytes) -> bytes:
        """The bytes to keep instead. Changed ones are found under another hash from then on."""
        ...

    def event(self, row: Recorded, moved: Mapping[str, str]) -> bytes:
        """The event's data to keep instead; `moved` gives the new hash of each blob that changed."""
        ...

    def document(self, view: str, key: str, value: bytes, moved: Mapping[str, str]) -> bytes | None:
        """The document to keep instead; None deletes it."""
        ...

    def end(self, tx: Tx) -> None:
        """Append what is to be said about it."""
        ...


class Store(Protocol):
    """An event store. Thread-safe: each thread has its own connection underneath."""

    def write(self, *, durable: bool = True) -> AbstractContextManager[Tx]:
        """Open a write transaction; an exception rolls everything back. Raises StoreUnavailable.

        Not `durable`: it is done when every process sees it, and on the disk with the next durable one. Only a machine that
        crashes may forget it, never a process: enough for what is fenced and would merely be done again.
        """
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

    def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Recorded]:
        """Events of the stream with version > after, in order; at most `limit`."""
        ...

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

    def stage(self, job_id: str, stage: str) -> StageRow | None: ...

    def stages(self, job_id: str, name: str | None = None) -> list[StageRow]:
        """The stages of a job, or those of one family, in the order they were added."""
        ...

    def has_stages(self, job_id: str) -> bool:
        """Whether the job goes on: claim rows are dropped when it ends."""
        ...

    def open_jobs(self) -> list[str]:
        """Ids of the jobs that go on, sorted."""
        ...

    def before(self, job_id: str, stage: str) -> list[Edge]:
        """What the stage waits for."""
        ...

    def running_stages(self) -> list[StageRow]:
        """All stages somebody runs, the oldest lease first."""
        ...

    def ready_stages(
        self, queue: str, *, sent_before_ms: int, limit: int, after: tuple[int, str, str] = (-1, "", "")
    ) -> list[StageRow]:
        """Ready stages of the queue that are due and whose hint was sent before a time, the longest ago first.

        `after` goes on behind a row: its (sent_ms, job_id, stage).
        """
        ...

    def far_stages(self, due_after_ms: int) -> list[StageRow]:
        """Ready stages whose time lies behind this one."""
        ...

    def count_stages(self, job_id: str | None = None, state: StageState | None = None) -> list[StageCount]:
        """How many stages are where, of all unfinished jobs or of one, in any state or in one. No row is read for it."""
        ...

    def doc(self, view: str, key: str) -> bytes | None: ...

    def docs(self, view: str, prefix: str = "") -> list[tuple[str, bytes]]:
        """Documents of a view whose key begins so, sorted by key; no others are read."""
        ...

    def doc_views(self) -> list[str]:
        """Names of the views that have documents, sorted."""
        ...

    def blob_hashes(self, after: str = "", limit: int = 10_000) -> list[str]:
        """Hashes of stored blobs above `after`, in order."""
        ...

    def rewrite(self, rewriting: Rewriting) -> None:
        """Change what is stored, for removing what should never have been: the one exception to append-only.

        One transaction over every blob, event and document. Ids, order, streams, versions, times and `meta` of events stay.
        On return nothing of the replaced bytes is left in the store's own files.
        """
        ...

    def now_ms(self) -> int: ...

    def close(self) -> None: ...
