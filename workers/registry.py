"""From the tables of kinds to what runs: the function of a stage, and the actor that carries its hints."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from lerim_jobs.kinds import all_stages, stage_of
from lerim_jobs.kinds.kind import HOST, QUEUES, host_queue

if TYPE_CHECKING:
    from dramatiq import Broker

    from workers.stage import Outcome, StageContext

__all__ = ["load_stage", "queues", "register"]

_loading = threading.Lock()


def load_stage(stage: str) -> Callable[[StageContext], Outcome]:
    """The stage's `run`; model libraries are loaded here, on first use, not at worker start."""
    # One thread at a time: several that import the same large libraries at once take far longer than one.
    with _loading:
        module = importlib.import_module(stage_of(stage).run)
    return cast("Callable[[StageContext], Outcome]", module.run)


def queues(host: str) -> list[str]:
    """Every queue a worker on this host can serve."""
    return [*QUEUES, host_queue(host)]


def register(broker: Broker, run_hint: Callable[[str, str], None], *, host: str) -> None:
    """Make one actor per stage family on this broker; each only passes its hint to `run_hint(job_id, stage)`."""
    from dramatiq import Actor

    for name, stage in all_stages().items():
        queue = host_queue(host) if stage.queue == HOST else stage.queue
        Actor(run_hint, broker=broker, actor_name=name, queue_name=queue, priority=0, options={})
