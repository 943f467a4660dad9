"""Every event there is: frozen, past tense, flat, JSON-native.

A shipped event is never edited: raise its schema number in `SCHEMA`, add one lift in `codec.py`, add a golden row in
`tests/golden`. Streams: `job-<job_id>`, `session-<agent>-<key>`, `memory-<memory_id>`, `project-<project_id>`, `redactions`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = [
    "EVENTS",
    "SCHEMA",
    "Event",
    "JobEvent",
    "JobFinished",
    "JobKind",
    "JobRequested",
    "JobStatus",
    "MemoryAccessed",
    "MemoryAdded",
    "MemoryArchived",
    "MemoryEdited",
    "MemoryEvent",
    "MemoryKind",
    "MemoryMerged",
    "MemoryRedacted",
    "MemoryRestored",
    "MemoryReverted",
    "MemoryStatus",
    "MemoryUpdated",
    "ModelCallFailed",
    "ModelCalled",
    "ProjectAdded",
    "ProjectEvent",
    "ProjectPublished",
    "ProjectRemoved",
    "ProposalRejected",
    "PublishedFile",
    "Quote",
    "RedactionApplied",
    "SessionEvent",
    "SessionExtracted",
    "SessionIndexed",
    "SessionQuarantined",
    "SessionReleased",
    "SessionScheduled",
    "StageCompleted",
    "StageFailed",
    "StageQuarantined",
    "StageRequested",
    "StageSkipped",
    "StageStarted",
    "TraceClosed",
]

JobKind = Literal["sync", "maintain", "ask", "check"]
JobStatus = Literal["succeeded", "partial", "failed", "cancelled"]
MemoryStatus = Literal["active", "archived", "merged", "undone", "redacted"]
MemoryKind = Literal["decision", "insight", "procedure", "friction", "pitfall", "preference", "summary"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happened. Fields are JSON-native; times end in `_ms` or `_ns` since the epoch."""


# --- job streams -----------------------------------------------------------------------------------
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
    """A worker claimed the stage. `takeover`: the attempt before died without a word."""

    stage: str
    attempt: int
    worker: str
    ready_ms: int
    takeover: bool = False


class StageCompleted(Event, frozen=True):
    """The stage's output is in the log; it never runs again. Over 16 KiB the output is the blob `output_blob`."""

    stage: str
    attempt: int
    output: dict[str, Any] = {}
    output_blob: str | None = None


class StageFailed(Event, frozen=True):
    """One attempt failed and said so. `retry_at_ms` None: no further attempt."""

    stage: str
    attempt: int
    error_type: str
    code: str
    message: str
    frames: list[str] = []
    retry_at_ms: int | None = None


class StageQuarantined(Event, frozen=True):
    """The stage will not be tried again; the rest of the job goes on without it."""

    stage: str
    attempts: int
    reason: str


class StageSkipped(Event, frozen=True):
    """The stage was never run because a stage it needs is dead or skipped."""

    stage: str
    reason: str


class ModelCalled(Event, frozen=True):
    """One answered model call, recorded before its answer was used. `answer_blob` replays it for free.

    `failed` lists the models that were tried before, as `{"model", "error_type"}`; `cost_usd` None = price unknown.
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


class ProposalRejected(Event, frozen=True):
    """A proposed memory change that the checks refused."""

    stage: str
    action: str
    title: str
    reason: str


class JobFinished(Event, frozen=True):
    """The job ended; terminal states are final. `result` has the counts shown to the user."""

    status: JobStatus
    result: dict[str, Any] = {}
    error: str | None = None


class TraceClosed(Event, frozen=True):
    """The job's reserved spans were emitted."""

    spans: int


# --- session streams -------------------------------------------------------------------------------
class SessionIndexed(Event, frozen=True):
    """New turns of a session file were read, redacted, compacted and stored, or the file was read and skipped.

    Turn numbers count kept turns of the whole session, `turn_from <= n < turn_to`. `blob` is the stored segment
    (None when nothing was kept: then `skip_reason` says why). The checkpoint fields resume the next read.
    """

    agent: str
    session_id: str
    path: str
    host: str
    size_bytes: int
    mtime_ns: int
    inode: int
    offset: int
    tail_hash: str
    turn_from: int = 0
    turn_to: int = 0
    blob: str | None = None
    skip_reason: str | None = None
    cwd: str | None = None
    branch: str | None = None
    title: str | None = None
    started_ms: int | None = None
    last_ms: int | None = None
    human_prompts: int = 0
    kept_bytes: int = 0
    redactions: int = 0
    first_key: str | None = None
    dropped: dict[str, int] = {}
    state: dict[str, Any] = {}


class SessionScheduled(Event, frozen=True):
    """A job took turns `turn_from <= n < turn_to` of the session for extraction."""

    job_id: str
    project_id: str
    turn_from: int
    turn_to: int


class SessionExtracted(Event, frozen=True):
    """The scheduled turns are integrated; they are paid for and never extracted again without `--force`."""

    job_id: str
    turn_to: int


class SessionQuarantined(Event, frozen=True):
    """The scheduled turns could not be extracted."""

    job_id: str
    turn_to: int
    stage: str
    reason: str


class SessionReleased(Event, frozen=True):
    """The job gave the scheduled turns back without extracting them."""

    job_id: str
    turn_from: int


# --- memory streams --------------------------------------------------------------------------------
class Quote(msgspec.Struct, frozen=True, omit_defaults=True):
    """Proof: words that stand in the stored transcript. `turn` is the session's kept-turn number."""

    text: str
    session_id: str
    stream: str
    agent: str
    turn: int
    speaker: str
    at_ms: int | None = None


class MemoryAdded(Event, frozen=True):
    """A memory was created, by an agent's accepted proposal or by hand: then it may have no quote."""

    memory_id: str
    project_id: str
    kind: MemoryKind
    title: str
    body: str
    confidence: float
    tags: list[str] = []
    quotes: list[Quote] = []
    session_id: str | None = None
    agent: str | None = None
    model: str | None = None
    reason: str = ""
    by_hand: bool = False


class MemoryUpdated(Event, frozen=True):
    """New title, body, confidence and tags; `quotes` are added to those it had."""

    memory_id: str
    title: str
    body: str
    confidence: float
    tags: list[str] = []
    quotes: list[Quote] = []
    session_id: str | None = None
    model: str | None = None
    reason: str = ""


class MemoryMerged(Event, frozen=True):
    """This memory went into another one, which carries its quotes on."""

    memory_id: str
    into: str
    reason: str = ""


class MemoryArchived(Event, frozen=True):
    """The memory is kept but no longer searched or shown by default."""

    memory_id: str
    reason: str = ""


class MemoryRestored(Event, frozen=True):
    """An archived memory is active again."""

    memory_id: str
    reason: str = ""


class MemoryEdited(Event, frozen=True):
    """Someone changed the memory's markdown file by hand."""

    memory_id: str
    title: str
    body: str
    confidence: float
    tags: list[str] = []


class MemoryReverted(Event, frozen=True):
    """The memory is again what it was at `to_version`; 0: before it was added, so it is `undone`.

    Everything is said, not derived, so that the fold never has to look back. `job_id` names the job that was undone.
    """

    memory_id: str
    to_version: int
    status: MemoryStatus
    kind: MemoryKind
    title: str
    body: str
    confidence: float
    tags: list[str] = []
    quotes: list[Quote] = []
    merged_into: str | None = None
    session_id: str | None = None
    agent: str | None = None
    model: str | None = None
    by_hand: bool = False
    job_id: str | None = None
    reason: str = ""


class MemoryRedacted(Event, frozen=True):
    """What the memory said was removed from everywhere, its own earlier events included. What is left says only that."""

    memory_id: str
    reason: str = ""


# --- project streams -------------------------------------------------------------------------------
class ProjectAdded(Event, frozen=True):
    """A folder was registered; its memories live in `<path>/.lerim/memory`."""

    project_id: str
    name: str
    path: str
    host: str


class ProjectRemoved(Event, frozen=True):
    """The folder is no longer synced; its memories stay."""

    project_id: str


class PublishedFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """One markdown file as it was last written: `path` below the memory folder, `digest` of its bytes.

    An empty `path` means the file is gone.
    """

    memory_id: str
    path: str
    digest: str
    version: int


class ProjectPublished(Event, frozen=True):
    """Markdown files were written or removed."""

    project_id: str
    files: list[PublishedFile]


class MemoryAccessed(Event, frozen=True):
    """Memories were cited by an answer or shown to someone: their decay starts anew."""

    project_id: str
    memory_ids: list[str]


# --- the stream `redactions` ------------------------------------------------------------------------
class RedactionApplied(Event, frozen=True):
    """Texts were removed from everything stored, earlier events included: so many pieces, in so many events and blobs.

    What they were is not kept: `pattern_hash` is the SHA-256 of the pattern, `memory_id` the memory whose texts they were.
    """

    hits: int
    events: int
    blobs: int
    memory_id: str | None = None
    pattern_hash: str | None = None


JobEvent = (
    JobRequested
    | StageRequested
    | StageStarted
    | StageCompleted
    | StageFailed
    | StageQuarantined
    | StageSkipped
    | ModelCalled
    | ModelCallFailed
    | ProposalRejected
    | JobFinished
    | TraceClosed
)
SessionEvent = SessionIndexed | SessionScheduled | SessionExtracted | SessionQuarantined | SessionReleased
MemoryEvent = (
    MemoryAdded
    | MemoryUpdated
    | MemoryMerged
    | MemoryArchived
    | MemoryRestored
    | MemoryEdited
    | MemoryReverted
    | MemoryRedacted
)
ProjectEvent = ProjectAdded | ProjectRemoved | ProjectPublished | MemoryAccessed

_ALL: tuple[type[Event], ...] = (
    JobRequested,
    StageRequested,
    StageStarted,
    StageCompleted,
    StageFailed,
    StageQuarantined,
    StageSkipped,
    ModelCalled,
    ModelCallFailed,
    ProposalRejected,
    JobFinished,
    TraceClosed,
    SessionIndexed,
    SessionScheduled,
    SessionExtracted,
    SessionQuarantined,
    SessionReleased,
    MemoryAdded,
    MemoryUpdated,
    MemoryMerged,
    MemoryArchived,
    MemoryRestored,
    MemoryEdited,
    MemoryReverted,
    MemoryRedacted,
    ProjectAdded,
    ProjectRemoved,
    ProjectPublished,
    MemoryAccessed,
    RedactionApplied,
)
EVENTS: dict[str, type[Event]] = {kind.__name__: kind for kind in _ALL}
SCHEMA: dict[str, int] = {}
"""Schema numbers above 1, by event name."""
