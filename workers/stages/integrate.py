"""integrate: decide what a session's candidates mean for what is known, and propose it.

Reads   the candidates of the session's windows, its summary, the project's memories
Writes  memory events for accepted proposals, a rejection for each refused one, SessionExtracted
Raises  ModelUnavailable (retried, then gives up), ModelRefused (gives up), ConflictError (decided again)
"""

from __future__ import annotations

from typing import Any

import msgspec

from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.kinds.sync import SessionPlan
from lerim_jobs.log.events import ProposalRejected, SessionExtracted
from lerim_jobs.log.projection import find
from lerim_jobs.memory.checks.checks import Decided, Verdict, check
from lerim_jobs.memory.checks.summaries import SessionRef, summary_effects
from lerim_jobs.memory.proposals import Candidate, Proposal
from lerim_jobs.sessions.session import SESSIONS
from lerim_jobs.sessions.transcript import Turn
from workers.agents import lead
from workers.agents.undisputed import undisputed
from workers.memories import Memories
from workers.models import Models
from workers.stage import Outcome, StageContext
from workers.stages.sessions import planned_session, session_turns

__all__ = ["run"]


def run(ctx: StageContext) -> Outcome:
    """The agents propose; `check` decides; the commit appends."""
    plan = planned_session(ctx)
    candidates = _candidates(ctx)
    memories = Memories(ctx.store, ctx.home, project_ids=[plan.project_id], embedder=ctx.embedder)
    models = ctx.models()
    session = find(
        ctx.store, SESSIONS, plan.stream
    )  # before its turns: taking some back makes this attempt decide again
    turns = session_turns(ctx.store, plan)

    def judged(proposals: list[Proposal]) -> Verdict:
        return check(
            proposals,
            candidates=candidates,
            memories=memories.by_id,
            turns=turns,
            session=_ref(ctx, plan, models),
            project_id=plan.project_id,
            job_key=ctx.job_id,
            session_title=plan.title,
            max_archives=ctx.settings.memory.max_archived_per_job - _taken_away(ctx, plan.project_id),
        )

    proposals = undisputed(candidates, memories, session_stream=plan.stream)
    verdict = judged(proposals or [])
    if proposals is None or verdict.rejected:
        proposals = lead.integrate(models, candidates, memories, session_title=plan.title, session_stream=plan.stream)
        verdict = judged(proposals)
    output = {
        **verdict.counts,
        "title": plan.title,
        "proposals": [_line(one, candidates, so) for one, so in zip(proposals, verdict.decided, strict=True)],
        "replayed": models.replayed,
    }
    rejected = [ProposalRejected(ctx.stage, one.action, one.title, one.reason) for one in verdict.rejected]
    if ctx.input.get("dry_run"):
        return Outcome(output, rejected=rejected)
    effects = _effects(ctx, verdict, turns, _ref(ctx, plan, models), memories)
    settled = Effect(plan.stream, [SessionExtracted(ctx.job_id, plan.turn_to)], session.version if session else 0)
    return Outcome(output, [*effects, settled], rejected=rejected)


def _ref(ctx: StageContext, plan: SessionPlan, models: Models) -> SessionRef:
    """The session as memories name it, with the model that decided: the lead, or where none was needed that which extracted."""
    extracted = next((output["model"] for output in ctx.outputs.values() if output.get("model")), None)
    model = models.answered_by("lead") or extracted
    return SessionRef(session_id=plan.session_id, stream=plan.stream, agent=plan.agent, model=model)


def _candidates(ctx: StageContext) -> list[Candidate]:
    """All windows' candidates in transcript order; what overlapping windows found twice counts once."""
    found = [
        msgspec.convert(candidate, Candidate)
        for output in ctx.outputs.values()
        for candidate in output.get("candidates", ())
    ]
    unique = {(one.kind, one.title.casefold(), one.quote): one for one in reversed(found)}
    return sorted(unique.values(), key=lambda one: (one.turn, one.title))


def _effects(
    ctx: StageContext, verdict: Verdict, turns: list[Turn], ref: SessionRef, memories: Memories
) -> list[Effect]:
    plan = planned_session(ctx)
    summary = next(output for output in ctx.outputs.values() if "body" in output)
    about = (
        []
        if not summary["body"]
        else summary_effects(
            title=summary["title"],
            body=summary["body"],
            session=ref,
            turns=turns,
            project_id=plan.project_id,
            memories=memories.by_id,
        )
    )
    return [*verdict.effects, *about]


def _taken_away(ctx: StageContext, project_id: str) -> int:
    """How many of the project's memories this job has archived so far; its integrations run one after the other."""
    return sum(counts["archived"] + counts["merged"] for counts in ctx.sums(project_id).values())


def _line(proposal: Proposal, candidates: list[Candidate], decided: Decided) -> dict[str, Any]:
    """One proposal as a dry run and the job's result show it."""
    about = candidates[proposal.candidate].title if proposal.candidate is not None else proposal.title
    return {
        "action": proposal.action,
        "title": about or proposal.title,
        "candidate": proposal.candidate,
        "also": proposal.also,
        "reason": proposal.reason,
        **msgspec.structs.asdict(decided),
    }
