"""summarize: one title and body that say what a session was about.

Reads   the session's new turns in windows, and its summary so far when it grew
Writes  title and body
Raises  ModelUnavailable (retried, then gives up), ModelRefused and BadTranscript (give up)
"""

from __future__ import annotations

from lerim_jobs.log.projection import find
from lerim_jobs.memory.checks.summaries import summary_id
from lerim_jobs.memory.stored import MEMORIES
from lerim_jobs.sessions.session import SESSIONS
from workers.models import extraction
from workers.stage import Outcome, StageContext
from workers.stages.sessions import planned_session, session_turns, summarize_windows

__all__ = ["run"]


def run(ctx: StageContext) -> Outcome:
    """Several windows cost one call each and one to merge them."""
    plan = planned_session(ctx)
    role = ctx.settings.roles.summarize
    windows = summarize_windows(
        ctx.store, plan, max_tokens=role.max_window_tokens, overlap_tokens=role.window_overlap_tokens
    )
    texts = [window.text(session_turns(ctx.store, plan, window.turn_from, window.turn_to)) for window in windows]
    before = find(ctx.store, MEMORIES, summary_id(plan.project_id, plan.stream))
    models = ctx.models()
    session = find(ctx.store, SESSIONS, plan.stream)
    is_whole = plan.turn_from == 0 and session is not None and plan.turn_to >= session.turns
    previous = before.body if before and not is_whole else None
    summary = extraction.summarize(models, texts, previous=previous)
    return Outcome({"title": summary.title, "body": summary.body, "replayed": models.replayed})
