"""The one loop around every stage: claim, trace, run, commit, go on with a stage it freed or send its hint.

A hint may come twice, late or never; nothing here relies on it. Everything durable happens inside one fenced
transaction of `lerim_jobs.jobs.outcomes`, so this process may die between any two lines.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from lerim_jobs import __version__, faults
from lerim_jobs.config import Settings
from lerim_jobs.errors import JobsError, Parked, StoreUnavailable
from lerim_jobs.jobs import claims, outcomes, retry
from lerim_jobs.jobs.claims import Claim, Refused
from lerim_jobs.jobs.closing import close_trace
from lerim_jobs.jobs.outcomes import Effect, Settled
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.kinds import known_stage, stage_of
from lerim_jobs.log.store import StageRow, Store, Tx
from lerim_jobs.machine import identity
from lerim_jobs.paths import Home
from lerim_jobs.tracing.content import error_frames, mask
from lerim_jobs.tracing.propagation import under_attempt
from workers.leases import Leases
from workers.registry import load_stage
from workers.stage import Outcome
from workers.work import Work, Workshop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lerim_jobs.tracing.export.telemetry import Telemetry

__all__ = ["Runner"]

_log = logging.getLogger(__name__)
_MAX_DETAIL = 2000
_PATIENCE_S, _AGAIN_S = 20.0, 0.25
"""How long an attempt's failure waits for a log that cannot be written: unsaid, it would look like a death."""


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
    send: Callable[[Sequence[StageRow]], None]
    caps: Callable[[], Settings]
    stopping: threading.Event = field(default_factory=threading.Event)
    workshop: Workshop = field(init=False)

    def __post_init__(self) -> None:
        made = Workshop(self.store, self.home, self.env, self.host, self.caps, self._meta())
        object.__setattr__(self, "workshop", made)

    def run_hint(self, job_id: str, stage: str) -> None:
        """Do what a hint says, if the log still wants it, and what can be done right behind it.

        Never raises for what a stage does.
        """
        got = claims.claim(
            self.store,
            job_id,
            stage,
            self.owner,
            alive=identity.alive,
            max_attempts=_max_attempts(stage),
            lease_ms=self.leases.lease_ms,
            meta=self._meta(),
        )
        if isinstance(got, Refused):
            self.send(got.freed)
            return
        with ExitStack() as held:
            held.enter_context(self.leases.holding(got))
            claim: Claim | None = got
            while claim:
                settled = self._attempt(claim)
                claim = settled.taken if settled else None
                if claim:
                    held.enter_context(self.leases.holding(claim))

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
            request = self.workshop.request(row.job_id)
        except JobsError:
            return
        self.telemetry.emit_resent(request, row)

    def _attempt(self, claim: Claim) -> Settled | None:
        """Run, settle and pass on. None: the claim was lost."""
        settled = self._run(claim)
        if settled is None:
            _log.warning("%s of %s was cancelled or taken over: result dropped", claim.stage, claim.job_id)
            return None
        faults.die("after_append_before_send")
        self.send(settled.freed)
        if settled.ended:
            self.close(claim.job_id)
        return settled

    def _run(self, claim: Claim) -> Settled | None:
        """Whatever goes wrong after the claim becomes the attempt's outcome."""
        try:
            work = self.workshop.open(claim)
            if claim.attempt == 1 and work.is_first:
                self.telemetry.emit_started(work.request, claim.job_id)
            with under_attempt(work.request, claim.stage, claim.attempt, job_id=claim.job_id, **work.baggage):
                outcome = load_stage(claim.stage)(self.workshop.context(work))
                # Others may close the trace as soon as the outcome is in the log.
                self.telemetry.keep()
                self.leases.settling(claim)
                return self._commit(work, outcome)
        except Exception as exc:
            self.telemetry.keep()
            self.leases.settling(claim)
            return self._fail(claim, exc)

    def _commit(self, work: Work, outcome: Outcome) -> Settled | None:
        claim, effects = work.claim, list(outcome.effects)
        if outcome.rejected:
            effects.append(Effect(job_stream(claim.job_id), outcome.rejected))
        faults.die("before_commit")
        faults.stop(faults.STOP_BEFORE_COMMIT)
        return outcomes.complete(
            self.store,
            claim,
            output=outcome.output,
            effects=effects,
            blobs=outcome.blobs,
            next_stages=outcome.next_stages,
            end=outcome.end,
            take_next=partial(self._take_next, claim),
            meta=work.meta,
        )

    def _take_next(self, claim: Claim, tx: Tx, row: StageRow) -> Claim | Refused | None:
        """A stage this one freed goes on in this thread where it would come to this queue anyway, or is soon done.

        Who waits longer in its lane comes first.
        """
        known = known_stage(row.stage)
        if known is None or self.stopping.is_set() or row.job_id != claim.job_id or row.host not in (None, self.host):
            return None
        if row.state != "ready" or row.due_ms > tx.now_ms() or not (known.brief or row.queue == claim.queue):
            return None
        if row.lane and (row.job_id, row.stage) != next(((one.job_id, one.stage) for one in tx.lane(row.lane)), None):
            return None
        return claims.take(
            tx,
            row,
            self.owner,
            alive=identity.alive,
            max_attempts=_max_attempts(row.stage),
            lease_ms=self.leases.lease_ms,
            meta=self._meta(),
        )

    def _fail(self, claim: Claim, error: Exception) -> Settled | None:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._say_failed(claim, error)
            except StoreUnavailable as exc:
                if time.monotonic() > deadline or self.stopping.is_set():
                    raise
                _log.warning("%s of %s failed and the log cannot be told yet: %s", claim.stage, claim.job_id, exc)
                time.sleep(_AGAIN_S)

    def _say_failed(self, claim: Claim, error: Exception) -> Settled | None:
        if isinstance(error, Parked) and error.waits_for is not None:
            return outcomes.park(self.store, claim, waits_for=error.waits_for, message=str(error), meta=self._meta())
        decision = retry.decide(
            error, attempt=claim.attempt, strikes=claim.strikes, max_attempts=_max_attempts(claim.stage)
        )
        # Only our own messages are known to be free of content; a bug's message may quote anything.
        is_ours = isinstance(error, JobsError)
        if decision.code == "bug":
            _log.error("%s of %s failed with a bug:\n%s", claim.stage, claim.job_id, "\n".join(error_frames(error)))
        return outcomes.fail(
            self.store,
            claim,
            error_type=type(error).__name__,
            code=decision.code,
            message=str(error) if is_ours else "",
            detail="" if is_ours else self._detail(claim, error),
            frames=error_frames(error),
            retry_in_ms=decision.retry_in_ms,
            strike=decision.strike,
            meta=self._meta(),
        )

    def _detail(self, claim: Claim, error: Exception) -> str:
        """What a bug said, for the trace of a job that may show content."""
        try:
            request = self.workshop.request(claim.job_id)
        except JobsError:
            return ""
        return mask(str(error))[:_MAX_DETAIL] if request.sampled and request.include_content else ""

    def _meta(self) -> dict[str, Any]:
        """Who wrote an event."""
        return {"worker": self.owner, "host": self.host, "code": __version__}


def _max_attempts(stage: str) -> int:
    return stage_of(stage).max_attempts or retry.MAX_ATTEMPTS
