"""answer: answer a question from the memories, citing them.

Reads   the memories of one project, or of all; those of an earlier time when the question names one
Writes  the answer with the ids it cites; the cited memories count as used, unless it was about the past
Raises  ModelUnavailable (retried, then gives up), ModelRefused (gives up)
"""

from __future__ import annotations

from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.log.events import MemoryAccessed
from lerim_jobs.memory.search.asof import MemoriesThen
from lerim_jobs.projects import project_stream
from workers.agents import answerer
from workers.memories import Memories
from workers.stage import Outcome, StageContext

__all__ = ["run"]


def run(ctx: StageContext) -> Outcome:
    """One agent run; it may only cite what it has seen."""
    project_id = ctx.input.get("project_id")
    project_ids = [project_id] if project_id else None
    as_of_ms: int | None = ctx.input.get("as_of_ms")
    memories = (
        Memories(ctx.store, ctx.home, project_ids=project_ids, embedder=ctx.embedder)
        if as_of_ms is None
        else MemoriesThen(ctx.store, as_of_ms, by=ctx.input.get("as_of_by", "log"), project_ids=project_ids)
    )
    models = ctx.models()
    answer = answerer.answer(models, ctx.input["question"], memories, limit=ctx.input.get("limit") or 12)
    cited: dict[str, list[str]] = {}
    for memory_id in answer.citations:
        if memory := memories.read(memory_id):
            cited.setdefault(memory.project_id, []).append(memory_id)
    effects = [
        Effect(project_stream(project), [MemoryAccessed(project, memory_ids)]) for project, memory_ids in cited.items()
    ]
    if as_of_ms is not None:
        # What was known then may be wrong now: looking back must not keep it from fading.
        effects = []
    output = {"answer": answer.text, "citations": answer.citations, "replayed": models.replayed}
    return Outcome(output, effects)
