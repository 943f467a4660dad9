"""extract: turn one window of a session transcript into memory candidates, and a session of one window into its summary too.

Reads   window text, up to the role's max_window_tokens; the turns before a session's new part, as context
Writes  candidates in transcript order, and each dropped one with its reason; title and body where the plan says `at_once`
Raises  ModelUnavailable (retried, then gives up), ModelRefused and BadTranscript (give up)
"""

from __future__ import annotations

from typing import Any

import msgspec

from lerim_jobs.errors import BadTranscript
from lerim_jobs.log.events import ProposalRejected
from lerim_jobs.log.projection import find
from lerim_jobs.memory import wording
from lerim_jobs.memory.proposals import Candidate
from lerim_jobs.redaction.rewriting import REDACTIONS
from lerim_jobs.sessions.placing import placed
from lerim_jobs.sessions.session import SESSIONS
from lerim_jobs.sessions.transcript import Turn
from workers.models import extraction
from workers.stage import Outcome, StageContext
from workers.stages.sessions import about_session, extract_window, planned_session, session_turns, summary_so_far

__all__ = ["run"]


def run(ctx: StageContext) -> Outcome:
    """One window, one pipeline call; a candidate without its quote in the window is dropped."""
    plan = planned_session(ctx)
    window = extract_window(ctx.store, plan, ctx.input["window"])
    turns = session_turns(ctx.store, plan, window.turn_from, window.turn_to) if window else []
    if window is None or not window.of(turns):
        session = find(ctx.store, SESSIONS, plan.stream)
        if ctx.store.read(REDACTIONS) or (session and session.withdrawn):
            # The session got shorter after its windows were planned.
            nothing = {"title": plan.title, "body": ""} if plan.at_once else {}
            return Outcome({"candidates": [], "dropped": [], "turn_from": 0, "turn_to": 0, "replayed": 0, **nothing})
        raise BadTranscript(f"session {plan.session_id!r} has no window {ctx.input['window']}")
    models = ctx.models()
    text, about = window.text(turns, cwd=plan.cwd), about_session(ctx, plan, window)
    summary: dict[str, str] = {}
    if plan.at_once:
        found, whole = extraction.read_session(models, text, about=about, previous=summary_so_far(ctx.store, plan))
        summary = msgspec.structs.asdict(whole)
    else:
        found = extraction.extract(models, text, about=about)
    kept, dropped = _proved(found, turns)
    output: dict[str, Any] = {
        "candidates": msgspec.to_builtins(kept),
        "dropped": dropped,
        "turn_from": window.turn_from,
        "turn_to": window.turn_to,
        "model": models.answered_by("extract"),
        "replayed": models.replayed,
        **summary,
    }
    rejected = [ProposalRejected(ctx.stage, "keep", one["title"], one["reason"]) for one in dropped]
    return Outcome(output, rejected=rejected)


def _proved(found: list[Candidate], turns: list[Turn]) -> tuple[list[Candidate], list[dict[str, str]]]:
    kept: list[Candidate] = []
    dropped: list[dict[str, str]] = []
    for candidate, turn in zip(found, placed(turns, [one.quote for one in found]), strict=True):
        if turn is None:
            dropped.append({"title": wording.line(candidate.title), "reason": "its quote is not in the transcript"})
        else:
            kept.append(msgspec.structs.replace(candidate, turn=turn.n, said_ms=turn.at_ms, speaker=turn.speaker))
    return sorted(kept, key=lambda one: one.turn), dropped
