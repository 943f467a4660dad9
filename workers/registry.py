"""The table of stages: what runs them, how often they are tried, and which actor carries their hints."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import msgspec

from lerim_jobs.errors import BadInput
from lerim_jobs.jobs.plans import AGENT, ASK, EXTRACT, host_queue
from lerim_jobs.jobs.retry import MAX_ATTEMPTS

if TYPE_CHECKING:
    from dramatiq import Broker

    from workers.stage import Outcome, StageContext

__all__ = ["STAGES", "StageSpec", "family", "load_stage", "queues", "register", "spec_of"]

_loading = threading.Lock()
HOST = "host"
"""Stands for the queue of the worker's own host."""


class StageSpec(msgspec.Struct, frozen=True):
    """One family of stages. `role` names the model role its spans carry."""

    queue: str
    module: str
    role: str | None = None
    max_attempts: int = MAX_ATTEMPTS


STAGES: dict[str, StageSpec] = {
    "index": StageSpec(HOST, "workers.stages.index"),
    "extract": StageSpec(EXTRACT, "workers.stages.extract", role="extract"),
    "summarize": StageSpec(EXTRACT, "workers.stages.summarize", role="summarize"),
    "integrate": StageSpec(AGENT, "workers.stages.integrate", role="lead"),
    "publish": StageSpec(HOST, "workers.stages.publish"),
    "curate": StageSpec(AGENT, "workers.stages.curate", role="lead"),
    "answer": StageSpec(ASK, "workers.stages.answer", role="lead"),
    "check": StageSpec(ASK, "workers.stages.check"),
    "finish": StageSpec(ASK, "workers.stages.finish"),
}


def family(stage: str) -> str:
    """`extract` of `extract:ab12:0`."""
    return stage.partition(":")[0]


def spec_of(stage: str) -> StageSpec:
    """The table's row for a stage. Raises BadInput for a stage this version does not know."""
    try:
        return STAGES[family(stage)]
    except KeyError:
        raise BadInput(f"this version has no stage {stage!r}") from None


def load_stage(stage: str) -> Callable[[StageContext], Outcome]:
    """The stage's `run`; model libraries are loaded here, on first use, not at worker start."""
    # One thread at a time: several that import the same large libraries at once take far longer than one.
    with _loading:
        module = importlib.import_module(spec_of(stage).module)
    return cast("Callable[[StageContext], Outcome]", module.run)


def queues(host: str) -> list[str]:
    """Every queue a worker on this host can serve."""
    return [ASK, AGENT, EXTRACT, host_queue(host)]


def register(broker: Broker, run_hint: Callable[[str, str], None], *, host: str) -> None:
    """Make one actor per stage family on this broker; each only passes its hint to `run_hint(job_id, stage)`."""
    from dramatiq import Actor

    for name, spec in STAGES.items():
        queue = host_queue(host) if spec.queue == HOST else spec.queue
        Actor(run_hint, broker=broker, actor_name=name, queue_name=queue, priority=0, options={})
