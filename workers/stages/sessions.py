"""What the session stages share: the plan of their session, its stored turns, and what prompts say about it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from lerim_jobs.clock import iso
from lerim_jobs.errors import BadTranscript
from lerim_jobs.kinds.sync import SessionPlan
from lerim_jobs.log.projection import find
from lerim_jobs.log.store import Store
from lerim_jobs.memory.checks.summaries import summary_id
from lerim_jobs.memory.stored import MEMORIES
from lerim_jobs.projects import PROJECTS
from lerim_jobs.sessions.compaction import compact
from lerim_jobs.sessions.session import SESSIONS
from lerim_jobs.sessions.stored import stored_turns
from lerim_jobs.sessions.transcript import Turn, render
from lerim_jobs.sessions.windows import CHARS_PER_TOKEN, Window, cut
from workers.models.extraction import About
from workers.stage import StageContext

__all__ = [
    "about_session",
    "extract_window",
    "planned_session",
    "session_turns",
    "summarize_windows",
    "summary_so_far",
]

_BEFORE_TOKENS, _BEFORE_TURNS, _LEAST = 2000, 400, 200
"""So much of what was said before a session's new part is shown with it, of at most so many turns, and of one turn no less."""


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


def about_session(ctx: StageContext, plan: SessionPlan, window: Window | None = None) -> About:
    """Title, project, branch and day of the session. For the window that a session's new part begins with also the turns before
    it: windows after the first overlap anyway.
    """
    project = find(ctx.store, PROJECTS, plan.project_id)
    day = iso(plan.last_ms)
    facts = {
        "title": plan.title,
        "project": Path(project.path).name if project else "",
        "branch": plan.branch,
        "day": day[:10] if day else "",
    }
    before = ""
    if window and window.turn_from == plan.turn_from and not window.char_from:
        before = _said_before(ctx.store, plan)
    return About("; ".join(f"{name}: {text}" for name, text in facts.items() if text), before)


def summary_so_far(store: Store, plan: SessionPlan) -> str | None:
    """The stored summary that is to be brought up to date; None where the plan reads the whole session."""
    session = find(store, SESSIONS, plan.stream)
    is_whole = plan.turn_from == 0 and session is not None and plan.turn_to >= session.turns
    before = find(store, MEMORIES, summary_id(plan.project_id, plan.stream))
    return before.body if before and not is_whole else None


def _said_before(store: Store, plan: SessionPlan) -> str:
    """As many of the last turns before the plan's as fit; of the first that does not, its end."""
    turns = session_turns(store, plan, max(0, plan.turn_from - _BEFORE_TURNS), plan.turn_from)
    room, kept = int(_BEFORE_TOKENS * CHARS_PER_TOKEN), list[Turn]()
    for turn in reversed(compact(turns, plan.cwd)):
        text = render([turn])
        if len(text) > room:
            if room >= _LEAST:
                kept.insert(0, msgspec.structs.replace(turn, text=f"… {turn.text[-room:]}"))
            break
        kept.insert(0, turn)
        room -= len(text)
    return render(kept)


def _cut(store: Store, plan: SessionPlan, *, max_tokens: int, overlap_tokens: int) -> list[Window]:
    """As earlier versions did, whose plans have no windows."""
    return cut(session_turns(store, plan, plan.turn_from), max_tokens=max_tokens, overlap_tokens=overlap_tokens)
