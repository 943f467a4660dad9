"""Every event there is: frozen, past tense, flat, JSON-native; one module for each kind of stream.

A shipped event is never edited: raise its schema number in `SCHEMA`, add one lift in `codec.py`, add a golden row in
`tests/golden`.
"""

from __future__ import annotations

from typing import get_args

from lerim_jobs.log.events.control import (
    CAPS_STREAM,
    CapsChanged,
    ControlEvent,
    QueuePaused,
    QueueResumed,
    RedactionApplied,
)
from lerim_jobs.log.events.event import Event
from lerim_jobs.log.events.jobs import (
    BillPresumed,
    JobEvent,
    JobFinished,
    JobKind,
    JobPaused,
    JobRequested,
    JobResumed,
    JobStatus,
    ModelCalled,
    ModelCallFailed,
    ProposalRejected,
    StageCompleted,
    StageFailed,
    StageQuarantined,
    StageRequested,
    StageRetried,
    StageSkipped,
    StageStarted,
    TraceClosed,
)
from lerim_jobs.log.events.memories import (
    MemoryAdded,
    MemoryArchived,
    MemoryEdited,
    MemoryEvent,
    MemoryKind,
    MemoryMerged,
    MemoryRedacted,
    MemoryRestored,
    MemoryReverted,
    MemoryStatus,
    MemoryUpdated,
    Quote,
)
from lerim_jobs.log.events.projects import (
    MemoryAccessed,
    ProjectAdded,
    ProjectCurated,
    ProjectEvent,
    ProjectMoved,
    ProjectPlaceSeen,
    ProjectPublished,
    ProjectRemoved,
    PublishedFile,
)
from lerim_jobs.log.events.sessions import (
    SessionDropped,
    SessionEvent,
    SessionExtracted,
    SessionIndexed,
    SessionQuarantined,
    SessionReleased,
    SessionRetried,
    SessionScheduled,
    SessionTurnsWithdrawn,
)

__all__ = [
    "CAPS_STREAM",
    "EVENTS",
    "SCHEMA",
    "BillPresumed",
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
    "ProjectMoved",
    "ProjectPlaceSeen",
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
    "SessionTurnsWithdrawn",
    "StageCompleted",
    "StageFailed",
    "StageQuarantined",
    "StageRequested",
    "StageRetried",
    "StageSkipped",
    "StageStarted",
    "TraceClosed",
]

_KINDS: tuple[type[Event], ...] = (
    *get_args(JobEvent),
    *get_args(SessionEvent),
    *get_args(MemoryEvent),
    *get_args(ProjectEvent),
    *get_args(ControlEvent),
    CapsChanged,
    RedactionApplied,
)
EVENTS: dict[str, type[Event]] = {kind.__name__: kind for kind in _KINDS}
SCHEMA: dict[str, int] = {}
"""Schema numbers above 1, by event name."""
