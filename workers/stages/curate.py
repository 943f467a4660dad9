"""curate: keep a project's memories clean: merge duplicates, archive what faded.

Reads   the project's active memories and when each was last used
Writes  merges, consolidations and archives that passed the checks, each with its reason; decay is computed by code;
        which batches were looked at, so that an unchanged project costs nothing the next time
Raises  ModelUnavailable (retried, then gives up), ModelRefused (gives up), ConflictError (decided again)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.log.events import ProjectCurated, ProposalRejected
from lerim_jobs.log.projection import find
from lerim_jobs.memory.checks.batches import batch_key, batches, remaining, within
from lerim_jobs.memory.checks.checks import Decided, check
from lerim_jobs.memory.checks.decay import Decayed, decide
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.proposals import Proposal
from lerim_jobs.projects import PROJECTS, Project, project_stream
from workers.agents import curator
from workers.memories import Memories
from workers.stage import Outcome, StageContext

__all__ = ["run"]

_SHOWN = 200
"""Calculations that the trace shows one by one."""


def run(ctx: StageContext) -> Outcome:
    """Decay first, by formula; what is left goes to the curator, batch by batch, unless it saw the batch as it is."""
    project_id: str = ctx.input["project_id"]
    params: dict[str, Any] = ctx.input.get("params", {})
    project = find(ctx.store, PROJECTS, project_id)
    memories = Memories(ctx.store, ctx.home, project_ids=[project_id])
    active = [one for one in memories.by_id.values() if one.status == "active" and one.kind != "summary"]
    calculated = _calculated(ctx, project, active)
    faded = sorted((one for one in calculated if one.archive), key=lambda one: (one.effective, one.memory_id))
    # A clock that jumps or a long holiday must not empty a memory at once: fading takes half the room a job has.
    taken = faded[: (ctx.settings.memory.max_archived_per_job + 1) // 2]
    gone = {decayed.memory_id for decayed in faded}
    planned = batches([one for one in active if one.memory_id not in gone], ctx.settings.memory.curate_batch)
    seen = set() if params.get("force") or project is None else set(project.curated)
    waiting = [batch for batch in planned if batch_key(batch) not in seen]
    looked_at = waiting[: ctx.settings.memory.curate_batches]
    models = ctx.models()
    proposals = [proposal for batch in looked_at for proposal in curator.curate(models, batch)]
    fading = [_decay(decayed, memories) for decayed in taken]
    verdict = check(
        [*fading, *proposals],
        candidates=[],
        memories=memories.by_id,
        turns=[],
        session=None,
        project_id=project_id,
        job_key=ctx.job_id,
        max_archives=ctx.settings.memory.max_archived_per_job,
        model=models.answered_by("lead"),
    )
    output: dict[str, Any] = {
        **verdict.counts,
        "project": project.name if project else project_id,
        "batches": len(looked_at),
        "looked_at": sum(map(len, looked_at)),
        "seen_before": sum(len(batch) for batch in planned) - sum(map(len, waiting)),
        "left_for_later": sum(map(len, waiting[len(looked_at) :])) + len(faded) - len(taken),
        "decay": [_numbers(decayed) for decayed in calculated[:_SHOWN]],
        "decayed": [_faded(one, memories, so) for one, so in zip(taken, verdict.decided, strict=False)],
        "proposals": [
            _line(one, memories, so) for one, so in zip(proposals, verdict.decided[len(fading) :], strict=True)
        ],
        "replayed": models.replayed,
    }
    rejected = [ProposalRejected(ctx.stage, one.action, one.title, one.reason) for one in verdict.rejected]
    if params.get("dry_run"):
        return Outcome(output, rejected=rejected)
    judged = [batch for batch in planned if batch_key(batch) in seen or batch in looked_at]
    keys = _keys(planned, judged, verdict.effects, ctx.settings.memory.curate_batch)
    effects = verdict.effects
    if project and keys != project.curated:
        effects = [*effects, Effect(project_stream(project_id), [ProjectCurated(project_id, keys)])]
    return Outcome(output, effects, rejected=rejected)


def _keys(
    planned: Sequence[list[Memory]], judged: Sequence[list[Memory]], effects: Sequence[Effect], size: int
) -> list[str]:
    """Those of the batches that were judged, and of what the effects leave of them."""
    left = remaining([one for batch in planned for one in batch], effects)
    again = (batch for batch in batches(left, size) if within(batch, judged))
    return sorted({batch_key(batch) for batch in (*judged, *again)})


def _calculated(ctx: StageContext, project: Project | None, active: list[Memory]) -> list[Decayed]:
    if not ctx.settings.decay.enabled:
        return []
    used = project.accessed_ms if project else {}
    return [decide(one, ctx.now_ms, ctx.settings.decay, used_ms=used.get(one.memory_id, 0)) for one in active]


def _numbers(decayed: Decayed) -> dict[str, Any]:
    """One calculation without its words, which its archiving has."""
    return {key: value for key, value in msgspec.to_builtins(decayed).items() if key != "reason"}


def _faded(decayed: Decayed, memories: Memories, decided: Decided) -> dict[str, Any]:
    title = memories.by_id[decayed.memory_id].title
    return {**msgspec.to_builtins(decayed), "title": title, **msgspec.structs.asdict(decided)}


def _decay(decayed: Decayed, memories: Memories) -> Proposal:
    memory = memories.by_id[decayed.memory_id]
    return Proposal("decay", reason=decayed.reason, memory_id=memory.memory_id, version=memory.version)


def _line(proposal: Proposal, memories: Memories, decided: Decided) -> dict[str, Any]:
    memory = memories.by_id.get(proposal.memory_id or "")
    return {
        "action": proposal.action,
        "title": memory.title if memory else proposal.title,
        "absorbs": proposal.absorbs,
        "new_title": proposal.title,
        "reason": proposal.reason,
        **msgspec.structs.asdict(decided),
    }
