"""The one loop around every stage: claim, trace, run, commit, send what is next.

A hint may come twice, late or never; nothing here relies on it. Everything durable happens inside one fenced
transaction of `lerim_jobs.jobs.claims`, so this process may die between any two lines.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lerim_jobs import __version__, config, faults
from lerim_jobs.config import Settings
from lerim_jobs.errors import JobsError, Parked
from lerim_jobs.jobs import claims, job, retry
from lerim_jobs.jobs.claims import Claim, Effect, Refused, Settled
from lerim_jobs.jobs.closing import close_trace
from lerim_jobs.jobs.job import Job
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.log.store import StageRow, Store
from lerim_jobs.machine import identity
from lerim_jobs.paths import Home
from lerim_jobs.tracing.content import error_frames, mask
from lerim_jobs.tracing.propagation import under_attempt
from lerim_jobs.tracing.skeleton.spans import attempt_span_id
from workers.leases import Leases
from workers.log_journal import LogJournal
from workers.registry import load_stage, spec_of
from workers.stage import Outcome, StageContext

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lerim_jobs.tracing.export.telemetry import Telemetry
    from workers.models import Models

__all__ = ["Runner"]

_log = logging.getLogger(__name__)
_MAX_DETAIL = 2000


@dataclass(frozen=True, slots=True)
class Runner:
    """What running stages needs. `send` delivers hints as well as it goes; `owner` identifies this process.

    `caps` gives the settings whose budget and provider limits hold now.
    """

    store: Store
    home: Home
    env: dict[str, str]
    owner: str
    host: str
    leases: Leases
    telemetry: Telemetry
    send: Callable[[Sequence[StageRow], Job | None], None]
    caps: Callable[[], Settings]
    settings: dict[tuple[str, Any], Settings] = field(default_factory=dict)

    def run_hint(self, job_id: str, stage: str) -> None:
        """Do what a hint says, if the log still wants it. Never raises for what a stage does."""
        got = claims.claim(
            self.store,
            job_id,
            stage,
            self.owner,
            alive=identity.alive,
            max_attempts=spec_of(stage).max_attempts,
            lease_ms=self.leases.lease_ms,
            meta=self._meta(),
        )
        if isinstance(got, Refused):
            self.send(got.freed, None)
            return
        with self.leases.holding(got):
            settled, work = self._attempt(got)
        if settled is None:
            _log.warning("%s of %s was cancelled or taken over: result dropped", stage, job_id)
            return
        faults.die("after_append_before_send")
        self.send(settled.freed, work)
        if settled.ended:
            self.close(job_id)

    def close(self, job_id: str) -> None:
        """Emit the trace of a finished job, unless somebody else does."""
        try:
            close_trace(
                self.store,
                job_id,
                self.owner,
                partial(self.telemetry.emit_job, alive=identity.alive),
                alive=identity.alive,
                remote=self.telemetry.is_remote,
            )
        except JobsError as exc:
            _log.warning("could not close the trace of %s yet: %s", job_id, exc)

    def note_resent(self, row: StageRow) -> None:
        """Show in the job's trace that a lost hint was sent again."""
        try:
            request = job.load(self.store, row.job_id).request
        except JobsError:
            return
        self.telemetry.emit_resent(request, row)

    def _attempt(self, claim: Claim) -> tuple[Settled | None, Job | None]:
        """Run and settle; whatever goes wrong after the claim becomes the attempt's outcome. None: the claim was lost."""
        try:
            work = job.load(self.store, claim.job_id)
            if claim.attempt == 1 and claim.stage == next(iter(work.stages)):
                self.telemetry.emit_started(work.request, claim.job_id)
            with under_attempt(
                work.request, claim.stage, claim.attempt, job_id=claim.job_id, **self._baggage(work, claim)
            ):
                outcome = load_stage(claim.stage)(self._context(work, claim))
                # Others may close the trace as soon as the outcome is in the log.
                self.telemetry.keep()
                return self._commit(work, claim, outcome), work
        except Exception as exc:
            self.telemetry.keep()
            return self._fail(claim, exc), None

    def _commit(self, work: Job, claim: Claim, outcome: Outcome) -> Settled | None:
        effects = list(outcome.effects)
        if outcome.rejected:
            effects.append(Effect(job_stream(claim.job_id), outcome.rejected))
        faults.die("before_commit")
        faults.stop(faults.STOP_BEFORE_COMMIT)
        return claims.complete(
            self.store,
            claim,
            output=outcome.output,
            effects=effects,
            blobs=outcome.blobs,
            next_stages=outcome.next_stages,
            end=outcome.end,
            meta=self._meta(work, claim),
        )

    def _fail(self, claim: Claim, error: Exception) -> Settled | None:
        decision = retry.decide(
            error, attempt=claim.attempt, strikes=claim.strikes, max_attempts=spec_of(claim.stage).max_attempts
        )
        # Only our own messages are known to be free of content; a bug's message may quote anything.
        is_ours = isinstance(error, JobsError)
        if decision.code == "bug":
            _log.error("%s of %s failed with a bug:\n%s", claim.stage, claim.job_id, "\n".join(error_frames(error)))
        return claims.fail(
            self.store,
            claim,
            error_type=type(error).__name__,
            code=decision.code,
            message=str(error) if is_ours else "",
            detail="" if is_ours else self._detail(claim, error),
            frames=error_frames(error),
            retry_in_ms=decision.retry_in_ms,
            strike=decision.strike,
            waits_for=error.waits_for if isinstance(error, Parked) else None,
            meta=self._meta(),
        )

    def _detail(self, claim: Claim, error: Exception) -> str:
        """What a bug said, for the trace of a job that may show content."""
        try:
            request = job.load(self.store, claim.job_id).request
        except JobsError:
            return ""
        return mask(str(error))[:_MAX_DETAIL] if request.sampled and request.include_content else ""

    def _context(self, work: Job, claim: Claim) -> StageContext:
        settings = self._settings(work, self._project(work, claim))

        def models() -> Models:
            from workers.models import Models

            journal = LogJournal(
                self.store,
                claim,
                session_id=_session(work, claim),
                project_id=_project_id(work, claim),
                caps=self.caps,
                meta=self._meta(work, claim),
            )
            return Models(
                settings=settings,
                env=self._env(work),
                journal=journal,
                include_content=work.request.include_content,
            )

        return StageContext(
            job=work,
            stage=claim.stage,
            attempt=claim.attempt,
            store=self.store,
            settings=settings,
            settings_of=lambda folder: self._settings(work, folder),
            env=self._env(work),
            home=self.home,
            host=self.host,
            now_ms=claim.started_ms,
            models=models,
        )

    def _settings(self, work: Job, project: Path | None) -> Settings:
        """Files are read once per process and project; `lerim down && lerim up` applies a change."""
        key = (str(project), work.request.params.get("provider"))
        if key not in self.settings:
            self.settings[key] = config.load(self._env(work), project=project)
        return self.settings[key]

    def _env(self, work: Job) -> dict[str, str]:
        """The worker's environment, with the provider the job was asked to use."""
        provider = work.request.params.get("provider")
        return {**self.env, "LERIM_PROVIDER": provider} if provider else self.env

    def _project(self, work: Job, claim: Claim) -> Path | None:
        from lerim_jobs.projects import active_projects

        project_id = _project_id(work, claim)
        project = active_projects(self.store).get(project_id) if project_id else None
        return Path(project.path) if project else None

    def _baggage(self, work: Job, claim: Claim) -> dict[str, str | None]:
        given = work.stages[claim.stage].request.input
        session = given.get("session", {})
        return {
            "role": spec_of(claim.stage).role,
            "project": _project_id(work, claim),
            "session_id": session.get("session_id"),
        }

    def _meta(self, work: Job | None = None, claim: Claim | None = None) -> dict[str, Any]:
        """Who wrote an event; with a claim also the span of its attempt, which every trace of the job has."""
        about = {"worker": self.owner, "host": self.host, "code": __version__}
        if work is None or claim is None:
            return about
        trace_id = work.request.trace_id
        return {**about, "trace_id": trace_id, "span_id": attempt_span_id(trace_id, claim.stage, claim.attempt)}


def _session(work: Job, claim: Claim) -> str | None:
    session: dict[str, Any] = work.stages[claim.stage].request.input.get("session", {})
    return session.get("session_id")


def _project_id(work: Job, claim: Claim) -> str | None:
    given = work.stages[claim.stage].request.input
    found: str | None = given.get("project_id") or given.get("session", {}).get("project_id")
    return found
