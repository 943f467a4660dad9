"""Every turn of every session: extracted, waiting, dead or skipped, each with a reason. Folded from the events alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from lerim_jobs.audit.finding import Breach, Place, Zero
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    JobFinished,
    JobRequested,
    SessionExtracted,
    SessionIndexed,
    SessionQuarantined,
    SessionReleased,
    SessionScheduled,
    SessionTurnsWithdrawn,
)
from lerim_jobs.log.scan import scan
from lerim_jobs.log.store import Store
from lerim_jobs.projects import active_projects
from lerim_jobs.sessions.projects import Folders

__all__ = ["account_for_turns"]

_TYPES = (
    "SessionIndexed",
    "SessionScheduled",
    "SessionExtracted",
    "SessionQuarantined",
    "SessionReleased",
    "SessionTurnsWithdrawn",
)
_WAITING, _EXTRACTED, _DEAD, _WITHDRAWN = 0, 1, 2, 3


@dataclass(slots=True)
class _Session:
    """A byte a turn says what became of it; `taken` are the turns jobs have taken and not answered for yet."""

    session_id: str
    turns: bytearray = field(default_factory=bytearray)
    taken: dict[str, tuple[int, int]] = field(default_factory=dict)
    human_prompts: int = 0
    cwd: str | None = None

    def withdraw(self, start: int, end: int) -> None:
        """What was taken back is nobody's to extract."""
        for n in range(start, min(end, len(self.turns))):
            self.turns[n] = _WITHDRAWN


def account_for_turns(place: Place) -> Zero:
    """Sessions whose numbers do not add up, and the totals by what became of the turns."""
    sessions: dict[str, _Session] = {}
    breaches: list[Breach] = []
    for row in scan(place.store, _TYPES):
        if isinstance(row.event, SessionIndexed):
            session = sessions.setdefault(row.stream, _Session(row.event.session_id))
            breaches += _index(session, row.event)
        elif row.stream in sessions:
            breaches += _settle(sessions[row.stream], row)
    totals: Counter[str] = Counter()
    folders = Folders(active_projects(place.store).values())
    for session in sessions.values():
        breaches += _sum_up(place.store, session, totals, folders)
    turns = sum(len(one.turns) for one in sessions.values())
    if turns != sum(totals.values()):
        breaches.append(Breach("all sessions", f"{turns} turns were seen and {sum(totals.values())} are accounted for"))
    return Zero("unaccounted", breaches, {"sessions": len(sessions), "turns": turns}, "", dict(totals))


def _index(session: _Session, event: SessionIndexed) -> list[Breach]:
    session.human_prompts += event.human_prompts
    session.cwd = session.cwd or event.cwd
    if not event.blob:
        return []
    wrong = event.turn_from != len(session.turns) or event.turn_to < event.turn_from
    session.turns.extend(bytes(max(0, event.turn_to - len(session.turns))))
    what = f"turns from {event.turn_from} were stored where {len(session.turns)} is next"
    return [Breach(f"session {session.session_id}", what)] if wrong else []


def _settle(session: _Session, row: Recorded) -> list[Breach]:
    event = row.event
    if isinstance(event, SessionScheduled):
        session.taken[event.job_id] = (event.turn_from, event.turn_to)
        if event.turn_to > len(session.turns):
            what = f"{event.job_id} took turns up to {event.turn_to} of {len(session.turns)}"
            return [Breach(f"session {session.session_id}", what)]
    elif isinstance(event, SessionTurnsWithdrawn):
        session.withdraw(event.turn_from, event.turn_to)
    elif isinstance(event, SessionReleased):
        session.taken.pop(event.job_id, None)
    elif isinstance(event, SessionExtracted | SessionQuarantined):
        return _answer(session, event)
    return []


def _answer(session: _Session, event: SessionExtracted | SessionQuarantined) -> list[Breach]:
    start, _ = session.taken.pop(event.job_id, (-1, 0))
    if start < 0:
        what = f"{event.job_id} settled turns it had not taken"
        return [Breach(f"session {session.session_id}", what)]
    for n in range(start, min(event.turn_to, len(session.turns))):
        if isinstance(event, SessionExtracted) and session.turns[n] != _WITHDRAWN:
            session.turns[n] = _EXTRACTED
        elif session.turns[n] == _WAITING:
            session.turns[n] = _DEAD
    return []


def _sum_up(store: Store, session: _Session, totals: Counter[str], folders: Folders) -> list[Breach]:
    totals["turns_extracted"] += session.turns.count(_EXTRACTED)
    totals["turns_dead"] += session.turns.count(_DEAD)
    if taken_back := session.turns.count(_WITHDRAWN):
        totals["turns_skipped: taken back"] += taken_back
    waiting = session.turns.count(_WAITING)
    if not waiting:
        return []
    if not session.human_prompts:
        totals["turns_skipped: nobody spoke"] += waiting
        return []
    for job_id, (start, end) in session.taken.items():
        if session.turns.count(_WAITING, start, end):
            status = _status(store, job_id)
            if status in ("succeeded", "partial"):
                what = f"{job_id} {status} and never said what became of turns {start} to {end - 1}"
                totals["turns_unaccounted"] += waiting
                return [Breach(f"session {session.session_id}", what)]
            if status == "open":
                totals["turns_waiting: taken by a job"] += waiting
                return []
    matched = folders.project_of(session.cwd)
    totals["turns_waiting: not synced yet" if matched else "turns_waiting: no registered project"] += waiting
    return []


def _status(store: Store, job_id: str) -> str:
    """`open` while it goes on, `dry` when it keeps nothing, else how it ended."""
    if store.has_stages(job_id):
        return "open"
    events = [row.event for row in store.read(job_stream(job_id))]
    if any(isinstance(event, JobRequested) and event.params.get("dry_run") for event in events):
        return "dry"
    return next((event.status for event in events if isinstance(event, JobFinished)), "unknown")
