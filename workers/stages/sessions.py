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
from lerim_jobs.sessions.windows import Window, cut
from workers.stage import StageContext

__all__ = ["extract_window", "planned_session", "session_turns", "summarize_windows"]


def planned_session(ctx: StageContext) -> SessionPlan:
    """The session this stage works on, as index planned it."""
    return msgspec.convert(ctx.input["session"], SessionPlan)


def extract_window(store: Store, plan: SessionPlan, number: int) -> Window | None:
    """The window of an extraction; None when the session has become too short for it."""
    if plan.extract:
        return Window(*plan.extract[0])
    windows = _cut(store, plan, max_tokens=plan.window_tokens, overlap_tokens=plan.overlap_tokens)
    return windows[number] if number < len(windows) else None


def summarize_windows(store: Store, plan: SessionPlan, *, max_tokens: int, overlap_tokens: int) -> list[Window]:
    """The windows of a summary, cut by these sizes where the plan has none."""
    windows = [Window(*one) for one in plan.summarize]
    return windows or _cut(store, plan, max_tokens=max_tokens, overlap_tokens=overlap_tokens)


def session_turns(store: Store, plan: SessionPlan, turn_from: int = 0, turn_to: int | None = None) -> list[Turn]:
    """Kept turns `turn_from <= n < turn_to` of the session, by default all up to the plan's end.

    Raises BadTranscript when the log has no such session or a segment cannot be read.
    """
    session = find(store, SESSIONS, plan.stream)
    if session is None:
        raise BadTranscript(f"session {plan.session_id!r} is not in the log")
    return stored_turns(store, session, turn_from, plan.turn_to if turn_to is None else turn_to)


def _cut(store: Store, plan: SessionPlan, *, max_tokens: int, overlap_tokens: int) -> list[Window]:
    """As earlier versions did, whose plans have no windows."""
    return cut(session_turns(store, plan, plan.turn_from), max_tokens=max_tokens, overlap_tokens=overlap_tokens)
