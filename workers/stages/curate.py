"""curate: keep a project's memories clean: merge duplicates, archive what faded.

Reads   the project's active memories and when each was last used
Writes  merges and archives that passed the checks, each with its reason; decay is computed by code
Raises  ModelUnavailable (retried, then gives up), ModelRefused (gives up), ConflictError (decided again)
"""

from __future__ import annotations

from typing import Any

import msgspec

from lerim_jobs.log.events import ProposalRejected
from lerim_jobs.memory.checks import Decided, check
from lerim_jobs.memory.decay import Decayed, decide
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.proposals import Proposal
from lerim_jobs.views.projection import find
from lerim_jobs.views.projects import PROJECTS
from workers.agents import curator
from workers.context import Outcome, StageContext
from workers.memories import Memories

__all__ = ["run"]

_SHOWN = 200
"""Calculations that the trace shows one by one."""


def run(ctx: StageContext) -> Outcome:
    """Decay first, by formula; what is left goes to the curator."""
    project_id: str = ctx.input["project_id"]
    memories = Memories(ctx.store, ctx.home, project_ids=[project_id])
    active = [one for one in memories.by_id.values() if one.status == "active" and one.kind != "summary"]
    calculated = _calculated(ctx, project_id, active)
    faded = [one for one in calculated if one.archive]
    gone = {decayed.memory_id for decayed in faded}
    kept = [one for one in active if one.memory_id not in gone]
    models = ctx.models()
    proposals = curator.curate(models, kept, memories) if len(kept) > 1 else []
    verdict = check(
        [*(_archive(decayed, memories) for decayed in faded), *proposals],
        candidates=[],
        memories=memories.by_id,
        turns=[],
        session=None,
        project_id=project_id,
        job_key=ctx.job.job_id,
    )
    output: dict[str, Any] = {
        **verdict.counts,
        "decay": [_numbers(decayed) for decayed in calculated[:_SHOWN]],
        "decayed": [
            {**msgspec.to_builtins(one), **msgspec.structs.asdict(so)}
            for one, so in zip(faded, verdict.decided, strict=False)
        ],
        "proposals": [
            _line(one, memories, so) for one, so in zip(proposals, verdict.decided[len(faded) :], strict=True)
        ],
        "replayed": models.replayed,
    }
    rejected = [ProposalRejected(ctx.stage, one.action, one.title, one.reason) for one in verdict.rejected]
    dry = ctx.input.get("params", {}).get("dry_run")
    return Outcome(output, [] if dry else verdict.effects, rejected=rejected)


def _calculated(ctx: StageContext, project_id: str, active: list[Memory]) -> list[Decayed]:
    if not ctx.settings.decay.enabled:
        return []
    project = find(ctx.store, PROJECTS, project_id)
    used = project.accessed_ms if project else {}
    return [decide(_used(one, used), ctx.now_ms, ctx.settings.decay) for one in active]


def _numbers(decayed: Decayed) -> dict[str, Any]:
    """One calculation without its words, which its archiving has."""
    return {key: value for key, value in msgspec.to_builtins(decayed).items() if key != "reason"}


def _used(memory: Memory, used_ms: dict[str, int]) -> Memory:
    return msgspec.structs.replace(memory, accessed_ms=used_ms.get(memory.memory_id, memory.accessed_ms))


def _archive(decayed: Decayed, memories: Memories) -> Proposal:
    memory = memories.by_id[decayed.memory_id]
    return Proposal("archive", reason=decayed.reason, memory_id=memory.memory_id, version=memory.version)


def _line(proposal: Proposal, memories: Memories, decided: Decided) -> dict[str, Any]:
    memory = memories.by_id.get(proposal.memory_id or "")
    return {
        "action": proposal.action,
        "title": memory.title if memory else proposal.title,
        "absorbs": proposal.absorbs,
        "reason": proposal.reason,
        **msgspec.structs.asdict(decided),
    }
