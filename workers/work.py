"""What a worker opens for one attempt: the job's request, the stage's input and wanted outputs, settings, models."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lerim_jobs import config, faults
from lerim_jobs.config import Settings
from lerim_jobs.errors import ClaimLost
from lerim_jobs.jobs import outcomes
from lerim_jobs.jobs.given_back import GivenBack
from lerim_jobs.jobs.loading import Beginning, beginning, outputs_before
from lerim_jobs.kinds import stage_of
from lerim_jobs.kinds.kind import project_of, session_of
from lerim_jobs.log.projection import peek
from lerim_jobs.log.store import Store
from lerim_jobs.paths import Home
from lerim_jobs.project_file import lowered
from lerim_jobs.projects import PROJECTS
from lerim_jobs.tracing.skeleton.spans import attempt_span_id
from workers.log_journal import LogJournal
from workers.stage import StageContext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lerim_jobs.jobs.claims import Claim
    from lerim_jobs.jobs.outcomes import Effect
    from lerim_jobs.log.events import JobRequested
    from workers.models import Models

__all__ = ["Work", "Workshop"]

_REMEMBERED = 64
"""Of the jobs worked on last it is kept how they began: every stage of a job needs that."""


@dataclass(frozen=True)
class Work:
    """One attempt, and what the log says of it. `meta` is what its events say of who wrote them."""

    claim: Claim
    begun: Beginning
    by: Mapping[str, Any]

    @property
    def request(self) -> JobRequested:
        """How the job was asked for."""
        return self.begun.request

    @cached_property
    def input(self) -> dict[str, Any]:
        """What the plan gave the stage."""
        return msgspec.json.decode(self.claim.input, type=dict[str, Any])

    @cached_property
    def project_id(self) -> str | None:
        """The project the stage is about."""
        return project_of(self.input)

    @property
    def is_first(self) -> bool:
        """Whether the job begins with this stage."""
        return self.claim.stage == self.begun.first_stage

    @property
    def baggage(self) -> dict[str, str | None]:
        """What every span of the attempt says."""
        session_id = session_of(self.input).get("session_id")
        return {"role": stage_of(self.claim.stage).role, "project": self.project_id, "session_id": session_id}

    @cached_property
    def meta(self) -> dict[str, Any]:
        """With the span of the attempt, which every trace of the job has."""
        trace_id = self.request.trace_id
        span_id = attempt_span_id(trace_id, self.claim.stage, self.claim.attempt)
        return {**self.by, "trace_id": trace_id, "span_id": span_id}


@dataclass(frozen=True)
class Workshop:
    """Opens attempts. Settings are read once per process and project; `lerim down && lerim up` applies a change."""

    store: Store
    home: Home
    env: dict[str, str]
    host: str
    caps: Callable[[], Settings]
    by: Mapping[str, Any]
    _settings: dict[tuple[str, Any], tuple[Settings, dict[str, Any]]] = field(default_factory=dict)
    _begun: OrderedDict[str, Beginning] = field(default_factory=OrderedDict)

    @cached_property
    def _given_back(self) -> GivenBack:
        return GivenBack(self.store)

    def request(self, job_id: str) -> JobRequested:
        """How the job was asked for. Raises BadInput."""
        return self._beginning(job_id).request

    def open(self, claim: Claim) -> Work:
        """What one attempt works with."""
        return Work(claim, self._beginning(claim.job_id), self.by)

    def context(self, work: Work) -> StageContext:
        """What the stage gets."""
        claim, wants = work.claim, stage_of(work.claim.stage).wants
        settings, said = self.settings(work, self._folder(work))
        return StageContext(
            job_id=claim.job_id,
            request=work.request,
            stage=claim.stage,
            attempt=claim.attempt,
            input=work.input,
            outputs=outputs_before(self.store, claim.job_id, claim.stage, wants) if wants else {},
            store=self.store,
            settings=settings,
            settings_of=lambda folder: self.settings(work, folder)[0],
            env=self._env(work),
            home=self.home,
            host=self.host,
            now_ms=claim.started_ms,
            models=lambda: self._models(work, settings, said),
            checkpoint=partial(self._checkpoint, work),
        )

    def _checkpoint(self, work: Work, effects: Sequence[Effect], blobs: Sequence[bytes]) -> None:
        claim = work.claim
        faults.die("before_checkpoint")
        if not outcomes.checkpoint(self.store, claim, effects=effects, blobs=blobs, meta=work.meta):
            raise ClaimLost(f"{claim.stage} of job {claim.job_id!r} is not attempt {claim.attempt}'s any more")
        faults.die("after_checkpoint")

    def settings(self, work: Work, project: Path | None) -> tuple[Settings, dict[str, Any]]:
        """Those of a project's folder, as the job may use them, and what of them the project's own file says."""
        key = (str(project), work.request.params.get("provider"))
        if key not in self._settings:
            self._settings[key] = config.load_with_said(self._env(work), project=project)
        return self._settings[key]

    def _beginning(self, job_id: str) -> Beginning:
        if (known := self._begun.get(job_id)) is not None:
            return known
        found = self._begun[job_id] = beginning(self.store, job_id)
        while len(self._begun) > _REMEMBERED:
            self._begun.popitem(last=False)
        return found

    def _models(self, work: Work, settings: Settings, said: Mapping[str, Any]) -> Models:
        from workers.models import Models

        journal = LogJournal(
            self.store,
            work.claim,
            session_id=session_of(work.input).get("session_id"),
            project_id=work.project_id,
            caps_now=lambda: lowered(self.caps(), said),
            meta=work.meta,
            earlier=self._earlier(work),
        )
        include_content = work.request.include_content
        return Models(settings=settings, env=self._env(work), journal=journal, include_content=include_content)

    def _earlier(self, work: Work) -> Callable[[str], bytes | None]:
        """What jobs that gave the stage's session back have paid for."""
        stream, job_id = session_of(work.input).get("stream"), work.claim.job_id
        return lambda key: self._given_back.find(stream, key, job_id=job_id) if stream else None

    def _env(self, work: Work) -> dict[str, str]:
        """The worker's environment, with the provider the job was asked to use."""
        provider = work.request.params.get("provider")
        return {**self.env, "LERIM_PROVIDER": provider} if provider else self.env

    def _folder(self, work: Work) -> Path | None:
        project = peek(self.store, PROJECTS, work.project_id) if work.project_id else None
        return Path(project.path) if project and not project.removed else None
