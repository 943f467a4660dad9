"""What the service answers with: frozen values, whose fields are those of `--json`. Times are ISO 8601 UTC."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from lerim_jobs.config import Retention

if TYPE_CHECKING:
    from lerim_jobs.memory.history.provenance import Origin
    from lerim_jobs.memory.search.context import Useful

__all__ = [
    "Context",
    "Job",
    "Kept",
    "Memory",
    "Process",
    "Progress",
    "ProjectStatus",
    "SessionCounts",
    "ShownMemory",
    "Status",
]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it stands or as it ended.

    `status`: requested, running, parked, paused, succeeded, partial, failed or cancelled. `waits_for` says why a job that
    was only asked for does not start, None when it does. `result` is what the job itself said at its end, by kind.
    """

    job_id: str
    kind: str
    status: str
    requested_at: str | None
    finished_at: str | None
    trace_id: str
    traced: bool
    attempts: int = 0
    stages: int = 0
    settled: int = 0
    parked: list[str] = []
    last_error: str | None = None
    error: str | None = None
    model_calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    unpriced_calls: int = 0
    waits_for: str | None = None
    result: dict[str, Any] = {}

    @property
    def answer(self) -> str | None:
        """Of an `ask` that has ended."""
        return self.result.get("answer")

    @property
    def citations(self) -> list[str]:
        """Ids of the memories the answer rests on."""
        return list(self.result.get("citations", ()))

    @property
    def memories(self) -> dict[str, int]:
        """Of a `sync` or `maintain` that has ended: how many memories were added, updated, merged, archived, …"""
        return dict(self.result.get("memories", {}))

    @property
    def sessions(self) -> dict[str, int]:
        """Of a `sync` that has ended: how many sessions were found, indexed, unchanged, skipped, quarantined."""
        return dict(self.result.get("sessions", {}))


class Progress(msgspec.Struct, frozen=True):
    """One step of a job that is followed: a line to show, the event behind it, and the stage it is about."""

    text: str
    event: str = ""
    stage: str | None = None


class Memory(msgspec.Struct, frozen=True):
    """A memory as lists show it. `quote` is the first sentence that proves it, `path` its file where there is one.

    `said_at` is when it was last said, None where that is not known; `kept_at` and `updated_at` are when the log got it and
    its newest change. `superseded_by` is the memory that is true instead of an archived one.
    """

    memory_id: str
    kind: str
    title: str
    body: str
    confidence: float
    tags: list[str]
    project: str | None
    session_id: str | None
    job_id: str | None
    trace_id: str | None
    span_id: str | None
    quote: str | None
    path: str | None
    status: str
    superseded_by: str | None
    updated_at: str | None
    said_at: str | None
    kept_at: str | None
    agent: str | None
    model: str | None
    version: int


class ShownMemory(Memory, frozen=True):
    """A memory with where it came from: every quote, the turns around it, the call that kept it, what placed it."""

    reason: str
    by_hand: bool
    merged_into: str | None
    origins: list[Origin]


class Context(msgspec.Struct, frozen=True):
    """What a coding agent should know at the start of a session; empty outside of every project, or without memories."""

    project: str | None
    markdown: str = ""
    tokens: int = 0
    memories: list[Useful] = []
    left_out: int = 0


class Process(msgspec.Struct, frozen=True):
    """A running worker or scheduler."""

    host: str
    pid: int
    queues: list[str]
    started_at: str | None
    tracing: bool


class ProjectStatus(msgspec.Struct, frozen=True):
    """A registered project and when its last jobs ended."""

    name: str
    path: str
    last_sync: str | None
    last_maintain: str | None


class SessionCounts(msgspec.Struct, frozen=True):
    """Sessions that are known, wait for a sync, or were given up."""

    known: int
    waiting: int
    quarantined: int


class Kept(Retention, frozen=True):
    """The retention that holds, and when it was last applied."""

    last_run: str | None = None


class Status(msgspec.Struct, frozen=True):
    """How things stand: what runs, what waits, what there is. `paused` names jobs and queues, `queues` counts ready stages."""

    home: str
    paused: list[str]
    workers: list[Process]
    scheduler: Process | None
    queues: dict[str, int]
    running: list[str]
    jobs: dict[str, int]
    projects: list[ProjectStatus]
    sessions: SessionCounts
    disk_bytes: dict[str, int]
    retention: Kept
