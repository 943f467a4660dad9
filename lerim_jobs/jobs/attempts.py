"""One stage of a job and its attempts: who tried it, from when to when, what it used, and how it ended."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from lerim_jobs.kinds.kind import family
from lerim_jobs.log.events import (
    ModelCalled,
    ModelCallFailed,
    StageCompleted,
    StageFailed,
    StageQuarantined,
    StageRequested,
    StageSkipped,
    StageStarted,
)

__all__ = ["Attempt", "Stage", "Usage"]

_WITHOUT_A_FAULT = ("handed_back", "parked")
"""Codes of attempts that ended without a result and without anything having failed."""


class Usage(msgspec.Struct, omit_defaults=True):
    """Sums over model calls; `cost_usd` covers only the priced ones, `calls` those that were answered."""

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
        self.cost_usd = round(self.cost_usd + (event.cost_usd or 0.0), 10)
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
    output_blob: str | None = None
    usage: Usage = msgspec.field(default_factory=Usage)


class Stage(msgspec.Struct):
    """One stage. `quarantined` and `skipped` are (event, at_ms)."""

    name: str
    requested: StageRequested | None = None
    requested_ms: int | None = None
    attempts: dict[int, Attempt] = {}
    quarantined: tuple[StageQuarantined, int] | None = None
    skipped: tuple[StageSkipped, int] | None = None
    noted: list[tuple[StageQuarantined | StageSkipped, int]] = []
    """Every time it was given up or skipped, also when it was revived later."""

    @property
    def family(self) -> str:
        """`extract` of `extract:ab12:0`."""
        return family(self.name)

    @property
    def state(self) -> Literal["open", "running", "done", "dead", "skipped"]:
        """What is known of it now."""
        if self.skipped:
            return "skipped"
        if self.quarantined:
            return "dead"
        last = self.in_order()[-1:]
        if any(one.outcome == "ok" for one in self.attempts.values()):
            return "done"
        return "running" if last and last[0].outcome is None else "open"

    @property
    def output(self) -> dict[str, Any]:
        """Of the attempt that completed it; empty before."""
        return next((one.output for one in self.attempts.values() if one.outcome == "ok"), {})

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

    def request(self, event: StageRequested, at_ms: int) -> None:
        """It joined the plan."""
        if self.requested is None:
            self.requested, self.requested_ms = event, at_ms

    def start(self, event: StageStarted, at_ms: int) -> None:
        """Somebody took it."""
        begun = Attempt(event.stage, event.attempt, event.worker, min(event.ready_ms, at_ms), at_ms)
        self.attempts.setdefault(event.attempt, begun)

    def end(self, event: StageCompleted | StageFailed, at_ms: int) -> None:
        """An attempt ended with a word."""
        attempt = self.attempts.get(event.attempt)
        if attempt is None or attempt.outcome:
            return
        attempt.ended_ms = max(at_ms, attempt.started_ms)
        if isinstance(event, StageCompleted):
            attempt.outcome, attempt.output, attempt.output_blob = "ok", event.output, event.output_blob
            return
        attempt.failed = event
        if event.code in _WITHOUT_A_FAULT:
            attempt.outcome = event.code
        else:
            attempt.outcome = "dead" if event.retry_at_ms is None else "retry_scheduled"

    def give_up(self, event: StageQuarantined | StageSkipped, at_ms: int) -> None:
        """It will not run again, or never did."""
        self.noted.append((event, at_ms))
        if isinstance(event, StageQuarantined):
            self.quarantined = (event, at_ms)
        else:
            self.skipped = (event, at_ms)

    def revive(self) -> None:
        """It may run after all."""
        self.quarantined = self.skipped = None

    def end_silent(self, finished_ms: int | None, *, cancelled: bool) -> None:
        """An attempt without a word ended, at the latest, when somebody noticed."""
        attempts = self.in_order()
        successors: list[Attempt | None] = [*attempts[1:], None]
        for attempt, following in zip(attempts, successors, strict=False):
            if attempt.outcome:
                continue
            given_up_ms = self.quarantined[1] if self.quarantined else finished_ms
            noticed = following.started_ms if following else given_up_ms
            if noticed is None:
                continue
            unfinished = following is None and self.quarantined is None
            attempt.outcome = "cancelled" if unfinished and cancelled else "worker_lost"
            attempt.ended_ms = max(noticed, attempt.started_ms)
