"""Every event there is: frozen, past tense, flat, JSON-native.

A shipped event is never edited: raise its schema number in `SCHEMA`, add one lift in `codec.py`, add a golden row in
`tests/golden`. Streams: `job-<job_id>`, `session-<agent>-<key>`, `memory-<memory_id>`, `project-<project_id>`,
`budget`, `control-queues`, `redactions`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

__all__ = [
    "CAPS_STREAM",
    "EVENTS",
    "SCHEMA",
    "CapsChanged",
    "ControlEvent",
    "Event",
    "JobEvent",
    "JobFinished",
    "JobKind",
    "JobPaused",
    "JobRequested",
    "JobResumed",
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
    "ProjectCurated",
    "ProjectEvent",
    "ProjectPublished",
    "ProjectRemoved",
    "ProposalRejected",
    "PublishedFile",
    "QueuePaused",
    "QueueResumed",
    "Quote",
    "RedactionApplied",
    "SessionDropped",
    "SessionEvent",
    "SessionExtracted",
    "SessionIndexed",
    "SessionQuarantined",
    "SessionReleased",
    "SessionRetried",
    "SessionScheduled",
    "StageCompleted",
    "StageFailed",
    "StageQuarantined",
    "StageRequested",
    "StageRetried",
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


class SessionRetried(Event, frozen=True):
    """Dead turns `turn_from <= n < turn_to` wait for extraction again."""

    turn_from: int
    turn_to: int


class SessionDropped(Event, frozen=True):
    """Somebody accepted that the dead turns `turn_from <= n < turn_to` will never be extracted."""

    turn_from: int
    turn_to: int
    reason: str


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
    """Someone changed the memory by hand, in its markdown file or by command. `kind` None: as it was."""

    memory_id: str
    title: str
    body: str
    confidence: float
    tags: list[str] = []
    kind: MemoryKind | None = None


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

    An empty `path` means the file is gone. `conflict` is the version that was put beside a file whose hand edit overlaps
    with it; 0 means there is none.
    """

    memory_id: str
    path: str
    digest: str
    version: int
    conflict: int = 0


class ProjectPublished(Event, frozen=True):
    """Markdown files were written, moved or removed. `checkout` is what git had checked out then, empty without git."""

    project_id: str
    files: list[PublishedFile]
    checkout: str = ""


class ProjectCurated(Event, frozen=True):
    """A clean-up looked at these batches of memories; a mark changes with any memory of its batch."""

    project_id: str
    marks: list[str]


class MemoryAccessed(Event, frozen=True):
    """Memories were cited by an answer or shown to someone: their decay starts anew."""

    project_id: str
    memory_ids: list[str]


# --- the budget's stream ---------------------------------------------------------------------------
CAPS_STREAM = "budget"


class CapsChanged(Event, frozen=True):
    """Calls were let out under these caps from now on; None: no cap. Dollars, and tokens where no price is known."""

    per_job_usd: float | None
    per_day_usd: float | None
    per_role_usd: dict[str, float | None]
    per_job_unpriced_tokens: float | None
    per_day_unpriced_tokens: float | None


# --- control ---------------------------------------------------------------------------------------
class QueuePaused(Event, frozen=True):
    """No stage of the queue starts before QueueResumed; `*` stands for every queue."""

    queue: str


class QueueResumed(Event, frozen=True):
    """Stages of the queue may start again."""

    queue: str


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
    | StageRetried
    | ModelCalled
    | ModelCallFailed
    | ProposalRejected
    | JobPaused
    | JobResumed
    | JobFinished
    | TraceClosed
)
SessionEvent = (
    SessionIndexed
    | SessionScheduled
    | SessionExtracted
    | SessionQuarantined
    | SessionReleased
    | SessionRetried
    | SessionDropped
)
ControlEvent = QueuePaused | QueueResumed
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
ProjectEvent = ProjectAdded | ProjectRemoved | ProjectPublished | ProjectCurated | MemoryAccessed

_ALL: tuple[type[Event], ...] = (
    JobRequested,
    StageRequested,
    StageStarted,
    StageCompleted,
    StageFailed,
    StageQuarantined,
    StageSkipped,
    StageRetried,
    ModelCalled,
    ModelCallFailed,
    ProposalRejected,
    JobPaused,
    JobResumed,
    JobFinished,
    TraceClosed,
    SessionIndexed,
    SessionScheduled,
    SessionExtracted,
    SessionQuarantined,
    SessionReleased,
    SessionRetried,
    SessionDropped,
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
    ProjectCurated,
    MemoryAccessed,
    CapsChanged,
    QueuePaused,
    QueueResumed,
    RedactionApplied,
)
EVENTS: dict[str, type[Event]] = {kind.__name__: kind for kind in _ALL}
SCHEMA: dict[str, int] = {}
"""Schema numbers above 1, by event name."""
