"""What a stage gets and what it gives back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerim_jobs import config
from lerim_jobs.config import Settings
from lerim_jobs.jobs import sums
from lerim_jobs.jobs.outcomes import Effect, End
from lerim_jobs.log.events import JobRequested, ProposalRejected, StageRequested
from lerim_jobs.log.store import Store
from lerim_jobs.memory.search.embedding import Embedder, bundled
from lerim_jobs.paths import Home

if TYPE_CHECKING:
    from workers.models import Models

__all__ = ["Outcome", "StageContext"]


@dataclass(frozen=True, slots=True)
class StageContext:
    """One attempt of one stage: how its job was asked for, its input, and what it may use. `store` is for reading."""

    job_id: str
    request: JobRequested
    stage: str
    attempt: int
    input: Mapping[str, Any]
    """What the plan gave the stage."""
    outputs: Mapping[str, Mapping[str, Any]]
    """Outputs of the stages it needed, of the families it wants, by stage name, in plan order."""
    store: Store
    settings: Settings
    settings_of: Callable[[Path], Settings]
    """The settings of another project, by its folder; `settings` are those of the stage's own."""
    env: dict[str, str]
    home: Home
    host: str
    now_ms: int
    models: Callable[[], Models]
    checkpoint: Callable[[Sequence[Effect], Sequence[bytes]], None]
    """Commits effects and their blobs while the stage goes on. Raises ClaimLost when it is not this attempt's any more, and
    ConflictError.
    """

    @property
    def embedder(self) -> Embedder | None:
        """The model of the extra, where the user's own settings want it: one index serves all projects. Raises ConfigError."""
        return bundled(wanted=config.load(self.env).search.embeddings)

    def sums(self, project_id: str) -> Mapping[str, Counter[str]]:
        """What the job's stages have counted for one project so far, by family."""
        return sums.of(self.store, self.job_id, project_id=project_id)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the stage's commit will append, all in one transaction or not at all."""

    output: dict[str, Any]
    effects: Sequence[Effect] = ()
    blobs: Sequence[bytes] = ()
    next_stages: Sequence[StageRequested] = ()
    rejected: Sequence[ProposalRejected] = ()
    end: End | None = None
