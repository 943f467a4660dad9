"""What the session stages share: the plan of their session and its stored turns."""

from __future__ import annotations

import msgspec

from lerim_jobs.errors import BadTranscript
from lerim_jobs.kinds.sync import SessionPlan
from lerim_jobs.log.projection import find
from lerim_jobs.log.store import Store
from lerim_jobs.sessions.session import SESSIONS
from lerim_jobs.sessions.stored import stored_turns
from lerim_jobs.sessions.transcript import Turn
from workers.stage import StageContext

__all__ = ["planned_session", "session_turns"]


def planned_session(ctx: StageContext) -> SessionPlan:
    """The session this stage works on, as index planned it."""
    return msgspec.convert(ctx.input["session"], SessionPlan)


def session_turns(store: Store, plan: SessionPlan, *, new_only: bool) -> list[Turn]:
    """Kept turns of the session up to the plan's end; `new_only` leaves out what was extracted before.

    Raises BadTranscript when the log has no such session or a segment cannot be read.
    """
    session = find(store, SESSIONS, plan.stream)
    if session is None:
        raise BadTranscript(f"session {plan.session_id!r} is not in the log")
    start = plan.turn_from if new_only else 0
    return [turn for turn in stored_turns(store, session) if start <= turn.n < plan.turn_to]
