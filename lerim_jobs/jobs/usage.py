"""What models were used for, and what it cost: sums over the log's events of model calls."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Literal

import msgspec

from lerim_jobs.clock import iso
from lerim_jobs.jobs.budget import PAID, PaidEvent
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import BillPresumed, ModelCalled, ModelCallFailed, StageFailed
from lerim_jobs.log.scan import scan
from lerim_jobs.log.store import Store

__all__ = ["DIMENSIONS", "Dimension", "UsageLine", "usage"]

Dimension = Literal["role", "model", "project", "session", "day", "job"]
DIMENSIONS: tuple[Dimension, ...] = ("role", "model", "project", "session", "day", "job")

_KEYS: dict[Dimension, Callable[[Recorded, PaidEvent], str | None]] = {
    "role": lambda row, call: call.role,
    "model": lambda row, call: call.model_asked if isinstance(call, ModelCallFailed) else call.model,
    "project": lambda row, call: call.project_id,
    "session": lambda row, call: call.session_id,
    "day": lambda row, call: str(iso(row.at_ms))[:10],
    "job": lambda row, call: _job_id(row),
}


class UsageLine(msgspec.Struct):
    """Sums over the calls that share a key; `key` None: the calls belong to none, as a question to no session.

    `calls` were answered and paid; `cost_usd` covers those whose price is known, the others are `unpriced_calls`.
    `errors` counts requests a provider did not answer, `fallbacks` calls that another model answered, `retries` calls that
    were made again: after an error by a later attempt, or for an answer that could not be used. Latencies are those of
    answered calls, fallbacks included, in ms; None without any. `presumed_usd` and `presumed_tokens` are the most that
    requests beside these may have cost which were sent and never answered; the caps count them.
    """

    key: str | None
    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cache_read_tokens: int = 0
    cost_usd: float | None = None
    unpriced_calls: int = 0
    presumed_usd: float = 0.0
    presumed_tokens: int = 0
    errors: int = 0
    retries: int = 0
    fallbacks: int = 0
    p50_ms: int | None = None
    p95_ms: int | None = None


class _Sums:
    def __init__(self, key: str | None) -> None:
        self.line = UsageLine(key)
        self.durations: list[int] = []
        self.costs: list[float] = []

    def add(self, call: ModelCalled) -> None:
        line = self.line
        line.calls += 1
        line.tokens_in += call.tokens_in
        line.tokens_out += call.tokens_out
        line.cache_read_tokens += call.cache_read_tokens
        line.unpriced_calls += call.cost_usd is None
        line.errors += len(call.failed)
        line.fallbacks += bool(call.failed)
        line.retries += call.occurrence > 0
        self.durations.append(call.duration_ms)
        if call.cost_usd is not None:
            self.costs.append(call.cost_usd)

    def add_failed(self, call: ModelCallFailed, *, retried: bool) -> None:
        line = self.line
        line.errors += max(1, len(call.failed))
        line.retries += retried
        line.tokens_in += call.tokens_in
        line.tokens_out += call.tokens_out
        if call.cost_usd is not None:
            self.costs.append(call.cost_usd)

    def add_presumed(self, bill: BillPresumed) -> None:
        if bill.usd is None:
            self.line.presumed_tokens += bill.tokens
        else:
            self.line.presumed_usd = round(self.line.presumed_usd + bill.usd, 9)

    def finished(self) -> UsageLine:
        ordered = sorted(self.durations)
        self.line.p50_ms, self.line.p95_ms = _quantile(ordered, 0.5), _quantile(ordered, 0.95)
        self.line.cost_usd = round(math.fsum(self.costs), 9) if self.costs else None
        return self.line


def usage(store: Store, by: Dimension, *, since_ms: int = 0) -> list[UsageLine]:
    """One line per key, the most tokens first; days in their order."""
    key_of = _KEYS[by]
    retried = _retried(store)
    sums: dict[str | None, _Sums] = {}
    for row in scan(store, PAID):
        call = row.event
        if row.at_ms < since_ms or not isinstance(call, PaidEvent):
            continue
        key = key_of(row, call)
        line = sums.setdefault(key, _Sums(key))
        if isinstance(call, ModelCalled):
            line.add(call)
        elif isinstance(call, BillPresumed):
            line.add_presumed(call)
        else:
            line.add_failed(call, retried=retried[_job_id(row), call.stage, call.attempt] > 0)
    lines = [one.finished() for one in sums.values()]
    if by == "day":
        return sorted(lines, key=lambda line: line.key or "")
    return sorted(lines, key=lambda line: (-(line.tokens_in + line.tokens_out), line.key or ""))


def _retried(store: Store) -> Counter[tuple[str, str, int]]:
    """Attempts that failed and were followed, or will be, by another one."""
    found: Counter[tuple[str, str, int]] = Counter()
    for row in scan(store, ("StageFailed",)):
        event = row.event
        if isinstance(event, StageFailed) and event.retry_at_ms is not None:
            found[_job_id(row), event.stage, event.attempt] += 1
    return found


def _job_id(row: Recorded) -> str:
    return row.stream.removeprefix("job-")


def _quantile(ordered: list[int], share: float) -> int | None:
    """The smallest value that at least this share of all values does not pass."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
