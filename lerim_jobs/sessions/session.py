"""Sessions as the log knows them: where each file was read up to, and which turns are extracted, taken or waiting."""

from __future__ import annotations

from typing import Any

import msgspec

from lerim_jobs.ids import derived
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    SessionDropped,
    SessionExtracted,
    SessionIndexed,
    SessionQuarantined,
    SessionReleased,
    SessionRetried,
    SessionScheduled,
    SessionTurnsWithdrawn,
)
from lerim_jobs.log.projection import View
from lerim_jobs.sessions.ranges import Range, both, joined, minus, size

__all__ = [
    "SESSIONS",
    "DeadTurns",
    "FileMark",
    "SegmentMark",
    "Session",
    "file_mark",
    "grown",
    "session_stream",
    "without",
]


class FileMark(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """How far one file of the session was read, and how it looked then.

    `offset` is behind the last complete line, whose `length:hash` is `tail_hash`; `state` is what its reader goes on with.
    """

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


class DeadTurns(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Turns `turn_from <= n < turn_to` that a job gave up. `dropped`: why somebody accepted that for good."""

    turn_from: int
    turn_to: int
    job_id: str
    stage: str
    reason: str
    at_ms: int = 0
    dropped: str | None = None


class Session(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A coding session. `taken_from <= n < taken_to` belong to job `taken_by`, if there is one.

    Every turn that stands is in one of three places: `dead`; waiting, which is `again` and all from `extracted_to` on; or
    extracted. `withdrawn` turns were taken back and are kept only to be shown.
    """

    stream: str
    agent: str
    session_id: str
    version: int = 0
    files: dict[str, FileMark] = {}
    segments: list[SegmentMark] = []
    turns: int = 0
    extracted_to: int = 0
    taken_from: int = 0
    taken_to: int = 0
    taken_by: str | None = None
    dead: list[DeadTurns] = []
    again: list[Range] = []
    """Turns below `extracted_to` that were dead and are to be tried again."""
    withdrawn: list[Range] = []
    skip_reason: str | None = None
    cwd: str | None = None
    branch: str | None = None
    title: str | None = None
    project_id: str | None = None
    first_key: str | None = None
    started_ms: int | None = None
    last_ms: int | None = None
    human_prompts: int = 0

    @property
    def waiting(self) -> bool:
        """Whether there are turns that are not extracted yet, in a session somebody spoke in."""
        return self.human_prompts > 0 and self.waiting_turns > 0

    @property
    def next_turns(self) -> Range:
        """What the next job takes: turns given another chance first, else all that are new. May be empty."""
        return self.again[0] if self.again else (self.extracted_to, self.turns)

    @property
    def waiting_turns(self) -> int:
        """Turns that nobody extracted or gave up yet."""
        waiting = [*self.again, (self.extracted_to, max(self.extracted_to, self.turns))]
        return size(_standing(waiting, self.withdrawn))

    @property
    def standing_turns(self) -> int:
        """Turns that nobody took back."""
        return self.turns - size(self.withdrawn)

    @property
    def dead_turns(self) -> int:
        """Turns that were given up, dropped ones included."""
        return size((one.turn_from, one.turn_to) for one in self.dead)

    @property
    def extracted_turns(self) -> int:
        """Turns whose memories are in the log."""
        return size(_standing([(0, self.extracted_to)], self.withdrawn)) - self.dead_turns - size(self.again)

    @property
    def quarantined(self) -> list[DeadTurns]:
        """Dead turns that somebody still has to decide about."""
        return [one for one in self.dead if one.dropped is None]


def session_stream(agent: str, session_id: str) -> str:
    """The stream of a session; the same session read from two files is one stream."""
    return f"session-{agent}-{derived(agent, session_id)}"


def file_mark(event: SessionIndexed) -> FileMark:
    """What is remembered of the file that was read."""
    return msgspec.convert(event, FileMark, from_attributes=True)


def _apply(session: Session | None, row: Recorded) -> Session | None:
    event = row.event
    if isinstance(event, SessionIndexed):
        return grown(session, row.stream, event, row.version)
    if session is None:
        return None
    return msgspec.structs.replace(session, version=row.version, **_changes(session, event, row.at_ms))


def grown(session: Session | None, stream: str, event: SessionIndexed, version: int) -> Session:
    """The session, perhaps a new one, after what was read of one of its files."""
    old = session or Session(stream, event.agent, event.session_id)
    segments = old.segments
    if event.blob:
        segments = [*segments, SegmentMark(event.turn_from, event.turn_to, event.blob)]
    return msgspec.structs.replace(
        old,
        version=version,
        files={**old.files, event.path: file_mark(event)},
        segments=segments,
        turns=max(old.turns, event.turn_to),
        skip_reason=None if segments else event.skip_reason,
        cwd=old.cwd or event.cwd,
        branch=event.branch or old.branch,
        title=event.title or old.title,
        first_key=old.first_key or event.first_key,
        started_ms=old.started_ms if old.started_ms is not None else event.started_ms,
        last_ms=max(filter(None, (old.last_ms, event.last_ms)), default=None),
        human_prompts=old.human_prompts + event.human_prompts,
    )


def _changes(session: Session, event: object, at_ms: int) -> dict[str, Any]:
    match event:
        case SessionScheduled():
            taken = {"taken_from": event.turn_from, "taken_to": event.turn_to, "taken_by": event.job_id}
            return {**taken, "project_id": event.project_id}
        case SessionExtracted():
            return _settled(session, event.turn_to) | {"dead": _without(session.dead, _taken(session, event.turn_to))}
        case SessionQuarantined():
            return _settled(session, event.turn_to) | {"dead": _given_up(session, event, at_ms)}
        case SessionReleased():
            return {"taken_from": session.extracted_to, "taken_to": session.extracted_to, "taken_by": None}
        case SessionRetried():
            return _retried(session, (event.turn_from, event.turn_to))
        case SessionTurnsWithdrawn():
            return _withdrawn(session, (event.turn_from, event.turn_to))
        case SessionDropped():
            window = (event.turn_from, event.turn_to)
            return {"dead": [_dropped(one, event.reason) if _lies_in(one, window) else one for one in session.dead]}
        case _:
            return {}


def _taken(session: Session, turn_to: int) -> Range:
    """What a job's outcome is about."""
    return (session.taken_from, turn_to)


def _settled(session: Session, turn_to: int) -> dict[str, Any]:
    extracted_to = max(session.extracted_to, turn_to)
    waited = [*session.again, (session.extracted_to, extracted_to)]
    return {"extracted_to": extracted_to, "again": joined(minus(waited, _taken(session, turn_to))), "taken_by": None}


def _given_up(session: Session, event: SessionQuarantined, at_ms: int) -> list[DeadTurns]:
    """Only what was waiting is lost: turns that a forced job took again stay extracted, dead ones stay as they are."""
    waiting = [*session.again, (session.extracted_to, max(session.extracted_to, event.turn_to))]
    lost = _standing(both(waiting, _taken(session, event.turn_to)), session.withdrawn)
    dead = [DeadTurns(first, end, event.job_id, event.stage, event.reason, at_ms) for first, end in lost]
    return sorted([*session.dead, *dead], key=lambda one: one.turn_from)


def _retried(session: Session, window: Range) -> dict[str, Any]:
    given = [(one.turn_from, one.turn_to) for one in session.dead if _lies_in(one, window)]
    again, extracted_to = joined([*session.again, *given]), session.extracted_to
    if again and again[-1][1] == extracted_to:
        # Next to what is new anyway: one piece of work, not two.
        extracted_to = again.pop()[0]
    return {"dead": _without(session.dead, window), "again": again, "extracted_to": extracted_to}


def without(session: Session, event: SessionTurnsWithdrawn, version: int) -> Session:
    """The session after turns of it were taken back."""
    return msgspec.structs.replace(session, version=version, **_withdrawn(session, (event.turn_from, event.turn_to)))


def _withdrawn(session: Session, window: Range) -> dict[str, Any]:
    return {
        "withdrawn": joined([*session.withdrawn, window]),
        "dead": _without(session.dead, window),
        "again": minus(session.again, window),
    }


def _standing(ranges: list[Range], withdrawn: list[Range]) -> list[Range]:
    for window in withdrawn:
        ranges = minus(ranges, window)
    return ranges


def _without(dead: list[DeadTurns], window: Range) -> list[DeadTurns]:
    return [
        msgspec.structs.replace(one, turn_from=first, turn_to=end)
        for one in dead
        for first, end in minus([(one.turn_from, one.turn_to)], window)
    ]


def _lies_in(one: DeadTurns, window: Range) -> bool:
    return window[0] <= one.turn_from and one.turn_to <= window[1]


def _dropped(one: DeadTurns, reason: str) -> DeadTurns:
    return msgspec.structs.replace(one, dropped=reason)


SESSIONS: View[Session] = View(
    name="sessions",
    version=4,
    shape=Session,
    types=(
        "SessionIndexed",
        "SessionScheduled",
        "SessionExtracted",
        "SessionQuarantined",
        "SessionReleased",
        "SessionRetried",
        "SessionDropped",
        "SessionTurnsWithdrawn",
    ),
    key=lambda row: row.stream,
    apply=_apply,
)
