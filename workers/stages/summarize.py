"""summarize: one title and body that say what a session was about.

Reads   the session's new turns in windows, and its summary so far when it grew
Writes  title and body
Raises  ModelUnavailable (retried, then gives up), ModelRefused and BadTranscript (give up)
"""

from __future__ import annotations

from workers.models import extraction
from workers.stage import Outcome, StageContext
from workers.stages.sessions import (
    about_session,
    planned_session,
    session_turns,
    summarize_windows,
    summary_so_far,
)

__all__ = ["run"]


def run(ctx: StageContext) -> Outcome:
    """Several windows cost one call each and one to merge them."""
    plan = planned_session(ctx)
    role = ctx.settings.roles.summarize
    windows = summarize_windows(
        ctx.store, plan, max_tokens=role.max_window_tokens, overlap_tokens=role.window_overlap_tokens
    )
    texts = [
        window.text(session_turns(ctx.store, plan, window.turn_from, window.turn_to), cwd=plan.cwd)
        for window in windows
    ]
    models = ctx.models()
    about = about_session(ctx, plan)
    summary = extraction.summarize(models, texts, about=about, previous=summary_so_far(ctx.store, plan))
    return Outcome({"title": summary.title, "body": summary.body, "replayed": models.replayed})
