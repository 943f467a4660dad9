"""Streams `session-<agent>-<key>`: what was read of a session, and what became of its turns."""

from __future__ import annotations

from typing import Any

from lerim_jobs.log.events.event import Event

__all__ = [
    "SessionDropped",
    "SessionEvent",
    "SessionExtracted",
    "SessionIndexed",
    "SessionQuarantined",
    "SessionReleased",
    "SessionRetried",
    "SessionScheduled",
    "SessionTurnsWithdrawn",
]


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


class SessionTurnsWithdrawn(Event, frozen=True):
    """The user took the stored turns `turn_from <= n < turn_to` back: by going to an earlier point, or the file lost them."""

    turn_from: int
    turn_to: int
    reason: str


SessionEvent = (
    SessionIndexed
    | SessionScheduled
    | SessionExtracted
    | SessionQuarantined
    | SessionReleased
    | SessionRetried
    | SessionDropped
    | SessionTurnsWithdrawn
)
