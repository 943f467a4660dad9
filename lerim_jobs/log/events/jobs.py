"""Streams `job-<job_id>`: what was asked for, its stages, its model calls, its end."""

from __future__ import annotations

from typing import Any, Literal

from lerim_jobs.log.events.event import Event

__all__ = [
    "BillPresumed",
    "JobEvent",
    "JobFinished",
    "JobKind",
    "JobPaused",
    "JobRequested",
    "JobResumed",
    "JobStatus",
    "ModelCallFailed",
    "ModelCalled",
    "ProposalRejected",
    "StageCompleted",
    "StageFailed",
    "StageQuarantined",
    "StageRequested",
    "StageRetried",
    "StageSkipped",
    "StageStarted",
    "TraceClosed",
]

JobKind = str
"""A name that `lerim_jobs/kinds` has."""
JobStatus = Literal["succeeded", "partial", "failed", "cancelled"]


class JobRequested(Event, frozen=True):
    """Someone asked for a job. Trace id, root span id, start and sampling are decided here, once."""

    kind: JobKind
    params: dict[str, Any]
    scope: str
    requested_by: str
    host: str
    trace_id: str
    root_span_id: str
    start_ns: int
    sampled: bool = False
    include_content: bool = True
    include_httpx: bool = False


class StageRequested(Event, frozen=True):
    """A stage joined the job's plan. It may start when every stage in `needs` and `after` is settled.

    A dead or skipped need skips this stage too; `after` only orders (`*` = all other stages of the job).
    """

    stage: str
    queue: str
    input: dict[str, Any] = {}
    needs: list[str] = []
    after: list[str] = []
    lane: str | None = None
    host: str | None = None


class StageStarted(Event, frozen=True):
    """A worker claimed the stage. `takeover`: the attempt before died without a word; `lost` is what is known of that."""

    stage: str
    attempt: int
    worker: str
    ready_ms: int
    takeover: bool = False
    lost: str | None = None


class StageCompleted(Event, frozen=True):
    """The stage's output is in the log; it never runs again. Over 16 KiB the output is the blob `output_blob`."""

    stage: str
    attempt: int
    output: dict[str, Any] = {}
    output_blob: str | None = None


class StageFailed(Event, frozen=True):
    """One attempt failed and said so. `retry_at_ms` None: no further attempt.

    `message` is ours and free of content. `detail` is what a bug said, which may quote anything: kept for a traced job
    that may show content, and shown nowhere but in its trace.
    """

    stage: str
    attempt: int
    error_type: str
    code: str
    message: str
    frames: list[str] = []
    retry_at_ms: int | None = None
    detail: str = ""


class StageQuarantined(Event, frozen=True):
    """The stage will not be tried again; the rest of the job goes on without it.

    `lost`: what is known of the end of the last attempt, when that died without a word.
    """

    stage: str
    attempts: int
    reason: str
    lost: str | None = None


class StageRetried(Event, frozen=True):
    """Somebody gave a dead stage another chance: its strikes are forgotten, `revived` are no longer skipped for it."""

    stage: str
    revived: list[str] = []


class StageSkipped(Event, frozen=True):
    """The stage was never run because a stage it needs is dead or skipped."""

    stage: str
    reason: str


class ModelCalled(Event, frozen=True):
    """One answered model call, recorded before its answer was used. `answer_blob` replays it for free.

    `failed` lists the models that were tried before, as `{"model", "error_type"}`; `cost_usd` None = price unknown.
    `asked_version` is the job stream's version when the request was let out: an answer to the same request that stands
    above it was still on its way then. `caps_version` is the budget stream's: the caps it was let out under. None: nothing
    was reserved for it.
    """

    stage: str
    attempt: int
    role: str
    request_hash: str
    occurrence: int
    answer_blob: str
    model_asked: str
    model: str
    provider: str
    tokens_in: int
    tokens_out: int
    duration_ms: int
    cache_read_tokens: int = 0
    cost_usd: float | None = None
    failed: list[dict[str, str]] = []
    session_id: str | None = None
    project_id: str | None = None
    asked_version: int | None = None
    caps_version: int | None = None


class ModelCallFailed(Event, frozen=True):
    """A model call that ended without any usable answer, after every fallback.

    Tokens and cost are those of answers that came back and were refused or of no use; mostly there are none.
    """

    stage: str
    attempt: int
    role: str
    model_asked: str
    error_type: str
    duration_ms: int
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None
    failed: list[dict[str, str]] = []
    session_id: str | None = None
    project_id: str | None = None
    caps_version: int | None = None


class BillPresumed(Event, frozen=True):
    """A request left, and nobody will say what it cost: it timed out, was cancelled, or its answer could not be read.

    It is booked at what was reserved for it, its upper bound: `usd`, or `tokens` where `usd` is None, the price unknown.
    """

    stage: str
    attempt: int
    role: str
    model: str
    provider: str
    error_type: str
    usd: float | None
    tokens: int
    session_id: str | None = None
    project_id: str | None = None
    caps_version: int | None = None


class ProposalRejected(Event, frozen=True):
    """A proposed memory change that the checks refused."""

    stage: str
    action: str
    title: str
    reason: str


class JobPaused(Event, frozen=True):
    """No further stage of the job starts before JobResumed; what runs goes on to its end."""


class JobResumed(Event, frozen=True):
    """The job goes on."""


class JobFinished(Event, frozen=True):
    """The job ended; terminal states are final. `result` has the counts shown to the user."""

    status: JobStatus
    result: dict[str, Any] = {}
    error: str | None = None


class TraceClosed(Event, frozen=True):
    """The job's reserved spans were emitted."""

    spans: int


JobEvent = (
    JobRequested
    | StageRequested
    | StageStarted
    | StageCompleted
    | StageFailed
    | StageQuarantined
    | StageSkipped
    | StageRetried
    | ModelCalled
    | ModelCallFailed
    | BillPresumed
    | ProposalRejected
    | JobPaused
    | JobResumed
    | JobFinished
    | TraceClosed
)
