"""Sessions as the log knows them: where each file was read up to, and which turns are extracted, taken or waiting."""

from __future__ import annotations

from typing import Any

import msgspec

from lerim_jobs.ids import derived
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    SessionExtracted,
    SessionIndexed,
    SessionQuarantined,
    SessionReleased,
    SessionScheduled,
)
from lerim_jobs.views.projection import View

__all__ = ["SESSIONS", "FileMark", "SegmentMark", "Session", "session_stream"]


class FileMark(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How far one file of the session was read."""

    path: str
    host: str
    size_bytes: int
    mtime_ns: int
    inode: int
    offset: int
    tail_hash: str
    state: dict[str, Any] = {}


class SegmentMark(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One stored piece of the transcript: turns `turn_from <= n < turn_to` in the blob."""

    turn_from: int
    turn_to: int
    blob: str


class Session(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A coding session. Turns below `extracted_to` are done; those below `taken_to` belong to job `taken_by`."""

    stream: str
    agent: str
    session_id: str
    version: int = 0
    files: dict[str, FileMark] = {}
    segments: list[SegmentMark] = []
    turns: int = 0
    extracted_to: int = 0
    taken_to: int = 0
    taken_by: str | None = None
    dead_turns: int = 0
    dead_reason: str | None = None
    skip_reason: str | None = None
    cwd: str | None = None
    title: str | None = None
    project_id: str | None = None
    first_key: str | None = None
    started_ms: int | None = None
    last_ms: int | None = None
    human_prompts: int = 0

    @property
    def waiting(self) -> bool:
        """Whether there are turns that are not extracted yet, in a session somebody spoke in."""
        return self.human_prompts > 0 and self.turns > self.extracted_to


def session_stream(agent: str, session_id: str) -> str:
    """The stream of a session; the same session read from two files is one stream."""
    return f"session-{agent}-{derived(agent, session_id)}"


def _apply(session: Session | None, row: Recorded) -> Session | None:
    event = row.event
    if isinstance(event, SessionIndexed):
        old = session or Session(row.stream, event.agent, event.session_id)
        return msgspec.structs.replace(_indexed(old, event), version=row.version)
    if session is None:
        return None
    return msgspec.structs.replace(session, version=row.version, **_changes(session, event))


def _indexed(old: Session, event: SessionIndexed) -> Session:
    mark = FileMark(
        event.path,
        event.host,
        event.size_bytes,
        event.mtime_ns,
        event.inode,
        event.offset,
        event.tail_hash,
        event.state,
    )
    segments = old.segments
    if event.blob:
        segments = [*segments, SegmentMark(event.turn_from, event.turn_to, event.blob)]
    return msgspec.structs.replace(
        old,
        files={**old.files, event.path: mark},
        segments=segments,
        turns=max(old.turns, event.turn_to),
        skip_reason=None if segments else event.skip_reason,
        cwd=old.cwd or event.cwd,
        title=event.title or old.title,
        first_key=old.first_key or event.first_key,
        started_ms=old.started_ms if old.started_ms is not None else event.started_ms,
        last_ms=max(filter(None, (old.last_ms, event.last_ms)), default=None),
        human_prompts=old.human_prompts + event.human_prompts,
    )


def _changes(session: Session, event: object) -> dict[str, Any]:
    match event:
        case SessionScheduled():
            return {"taken_to": event.turn_to, "taken_by": event.job_id, "project_id": event.project_id}
        case SessionExtracted():
            return {"extracted_to": event.turn_to, "taken_by": None}
        case SessionQuarantined():
            dead = event.turn_to - session.extracted_to
            return {
                "dead_turns": session.dead_turns + dead,
                "dead_reason": event.reason,
                "extracted_to": event.turn_to,
                "taken_by": None,
            }
        case SessionReleased():
            return {"taken_to": session.extracted_to, "taken_by": None}
        case _:
            return {}


SESSIONS: View[Session] = View(
    name="sessions",
    version=1,
    shape=Session,
    types=("SessionIndexed", "SessionScheduled", "SessionExtracted", "SessionQuarantined", "SessionReleased"),
    key=lambda row: row.stream,
    apply=_apply,
)
