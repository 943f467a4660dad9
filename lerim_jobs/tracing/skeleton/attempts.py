"""A job's event stream read as attempts: who tried which stage, from when to when, and how it ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from lerim_jobs.errors import CorruptLog
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    Event,
    JobFinished,
    JobRequested,
    ModelCalled,
    ModelCallFailed,
    StageCompleted,
    StageFailed,
    StageQuarantined,
    StageRequested,
    StageSkipped,
    StageStarted,
)

__all__ = ["Attempt", "History", "StageHistory", "Usage", "history"]

_OUTCOME_OF_CODE = {"handed_back": "handed_back", "parked": "parked"}


class Usage(msgspec.Struct):
    """Sums over model calls; `cost_usd` covers only the priced ones."""

    calls: int = 0
    failed_calls: int = 0
    fallbacks: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    unpriced_calls: int = 0

    def add(self, event: ModelCalled | ModelCallFailed) -> None:
        """Count one call, answered or not."""
        self.fallbacks += len(event.failed)
        self.tokens_in += event.tokens_in
        self.tokens_out += event.tokens_out
        self.cost_usd += event.cost_usd or 0.0
        if isinstance(event, ModelCallFailed):
            self.failed_calls += 1
            return
        self.calls += 1
        self.unpriced_calls += event.cost_usd is None


class Attempt(msgspec.Struct):
    """One try at a stage. `outcome` None and `ended_ms` None: it still runs."""

    stage: str
    number: int
    worker: str
    ready_ms: int
    started_ms: int
    ended_ms: int | None = None
    outcome: str | None = None
    failed: StageFailed | None = None
    output: dict[str, Any] = {}
    usage: Usage = msgspec.field(default_factory=Usage)


class StageHistory(msgspec.Struct):
    """One stage. `quarantined` and `skipped` are (event, at_ms)."""

    name: str
    requested: StageRequested | None = None
    requested_ms: int | None = None
    attempts: dict[int, Attempt] = {}
    quarantined: tuple[StageQuarantined, int] | None = None
    skipped: tuple[StageSkipped, int] | None = None

    def in_order(self) -> list[Attempt]:
        """Attempts by their number."""
        return [self.attempts[number] for number in sorted(self.attempts)]

    def ready_ms(self) -> int | None:
        """When the stage could first have run, as well as the log tells."""
        known = [attempt.ready_ms for attempt in self.attempts.values()]
        return min(known) if known else self.requested_ms

    def settled_ms(self) -> int | None:
        """When the stage was completed, given up or skipped; None while it is not."""
        over = [at for _, at in filter(None, (self.quarantined, self.skipped))]
        over += [a.ended_ms for a in self.attempts.values() if a.outcome == "ok" and a.ended_ms is not None]
        return max(over) if over else None


class History(msgspec.Struct):
    """The whole job, in the order the log has it."""

    job_id: str = ""
    request: JobRequested | None = None
    stages: dict[str, StageHistory] = {}
    usage: Usage = msgspec.field(default_factory=Usage)
    finished: JobFinished | None = None
    finished_ms: int | None = None

    def stage(self, name: str) -> StageHistory:
        """The stage of this name, made when it is new."""
        return self.stages.setdefault(name, StageHistory(name))


def history(events: Iterable[Recorded]) -> History:
    """Fold a job stream. Never raises: what cannot be read or does not fit is passed over."""
    job = History()
    for row in events:
        try:
            event = row.event
        except CorruptLog:
            continue
        job.job_id = job.job_id or row.stream.removeprefix("job-")
        if event is not None and (job.finished is None or not isinstance(event, StageStarted)):
            _apply(job, event, row.at_ms)
    for known in job.stages.values():
        _end_silent(job, known)
    return job


def _apply(job: History, event: Event, at_ms: int) -> None:  # noqa: C901 - one arm per event, nothing nested
    match event:
        case JobRequested():
            job.request = job.request or event
        case JobFinished() if job.finished is None:
            job.finished, job.finished_ms = event, at_ms
        case StageRequested():
            stage = job.stage(event.stage)
            if stage.requested is None:
                stage.requested, stage.requested_ms = event, at_ms
        case StageStarted():
            started = Attempt(event.stage, event.attempt, event.worker, min(event.ready_ms, at_ms), at_ms)
            job.stage(event.stage).attempts.setdefault(event.attempt, started)
        case StageCompleted() | StageFailed():
            _settle(job, event, at_ms)
        case StageQuarantined():
            job.stage(event.stage).quarantined = (event, at_ms)
        case StageSkipped():
            job.stage(event.stage).skipped = (event, at_ms)
        case ModelCalled() | ModelCallFailed():
            job.usage.add(event)
            if attempt := _attempt(job, event.stage, event.attempt):
                attempt.usage.add(event)
        case _:
            pass


def _settle(job: History, event: StageCompleted | StageFailed, at_ms: int) -> None:
    attempt = _attempt(job, event.stage, event.attempt)
    if attempt is None or attempt.outcome:
        return
    attempt.ended_ms = max(at_ms, attempt.started_ms)
    if isinstance(event, StageCompleted):
        attempt.outcome, attempt.output = "ok", event.output
    elif event.retry_at_ms is None:
        attempt.outcome, attempt.failed = "dead", event
    else:
        attempt.outcome, attempt.failed = _OUTCOME_OF_CODE.get(event.code, "retry_scheduled"), event


def _attempt(job: History, stage: str, number: int) -> Attempt | None:
    known = job.stages.get(stage)
    return known.attempts.get(number) if known else None


def _end_silent(job: History, stage: StageHistory) -> None:
    """An attempt without a word ended, at the latest, when somebody noticed."""
    attempts = stage.in_order()
    successors: list[Attempt | None] = [*attempts[1:], None]
    for attempt, following in zip(attempts, successors, strict=False):
        if attempt.outcome:
            continue
        noticed = following.started_ms if following else stage.quarantined[1] if stage.quarantined else job.finished_ms
        if noticed is None:
            continue
        unfinished = following is None and stage.quarantined is None
        cancelled = unfinished and job.finished is not None and job.finished.status == "cancelled"
        attempt.outcome = "cancelled" if cancelled else "worker_lost"
        attempt.ended_ms = max(noticed, attempt.started_ms)
