"""What a stage gets and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerim_jobs.config import Settings
from lerim_jobs.jobs.claims import Effect, End
from lerim_jobs.jobs.job import Job
from lerim_jobs.log.events import ProposalRejected, StageRequested
from lerim_jobs.log.store import Store
from lerim_jobs.paths import Home

if TYPE_CHECKING:
    from workers.models import Models

__all__ = ["Outcome", "StageContext"]


@dataclass(frozen=True, slots=True)
class StageContext:
    """One attempt of one stage: its job so far, its input, and what it may use. `store` is for reading."""

    job: Job
    stage: str
    attempt: int
    store: Store
    settings: Settings
    settings_of: Callable[[Path], Settings]
    """The settings of another project, by its folder; `settings` are those of the stage's own."""
    env: dict[str, str]
    home: Home
    host: str
    now_ms: int
    models: Callable[[], Models]

    @property
    def input(self) -> dict[str, Any]:
        """What the plan gave the stage."""
        return self.job.stages[self.stage].request.input

    @property
    def needs(self) -> dict[str, dict[str, Any]]:
        """Outputs of the stages this one needed, by stage name, in plan order."""
        names = self.job.stages[self.stage].request.needs
        return {name: self.job.stages[name].output for name in names}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the stage's commit will append, all in one transaction or not at all."""

    output: dict[str, Any]
    effects: Sequence[Effect] = ()
    blobs: Sequence[bytes] = ()
    next_stages: Sequence[StageRequested] = ()
    rejected: Sequence[ProposalRejected] = ()
    end: End | None = None
