"""A review of some days, read from the log: usage by day and role, errors, retries, and the slowest stages."""

from __future__ import annotations

import statistics
from collections import Counter

import msgspec

from lerim_jobs.jobs.usage import UsageLine, usage
from lerim_jobs.log.events import JobFinished, StageCompleted, StageFailed, StageStarted
from lerim_jobs.log.scan import scan
from lerim_jobs.log.store import Store

__all__ = ["Report", "StageTime", "report"]

_TYPES = ("JobFinished", "StageStarted", "StageCompleted", "StageFailed")
_SLOWEST = 8


class StageTime(msgspec.Struct, frozen=True):
    """How long the attempts of one stage family took, in seconds; `failed` of them failed."""

    stage: str
    attempts: int
    p50_s: float
    max_s: float
    failed: int


class Report(msgspec.Struct, frozen=True):
    """`error_rate`: failed requests over all requests, None without any. `jobs`: how many ended how."""

    jobs: dict[str, int]
    days: list[UsageLine]
    roles: list[UsageLine]
    error_rate: float | None
    retries: int
    fallbacks: int
    slowest: list[StageTime]


def report(store: Store, *, since_ms: int) -> Report:
    """Everything since a time (ms)."""
    roles = usage(store, "role", since_ms=since_ms)
    calls, errors = sum(one.calls for one in roles), sum(one.errors for one in roles)
    jobs, slowest = _stages(store, since_ms)
    return Report(
        jobs=dict(jobs.most_common()),
        days=usage(store, "day", since_ms=since_ms),
        roles=roles,
        error_rate=errors / (calls + errors) if calls + errors else None,
        retries=sum(one.retries for one in roles),
        fallbacks=sum(one.fallbacks for one in roles),
        slowest=slowest,
    )


def _stages(store: Store, since_ms: int) -> tuple[Counter[str], list[StageTime]]:
    jobs: Counter[str] = Counter()
    began: dict[tuple[str, str, int], int] = {}
    took: dict[str, list[float]] = {}
    failed: Counter[str] = Counter()
    for row in scan(store, _TYPES):
        event = row.event
        if row.at_ms < since_ms:
            continue
        if isinstance(event, JobFinished):
            jobs[event.status] += 1
        elif isinstance(event, StageStarted):
            began[row.stream, event.stage, event.attempt] = row.at_ms
        elif isinstance(event, StageCompleted | StageFailed):
            family = event.stage.partition(":")[0]
            start = began.pop((row.stream, event.stage, event.attempt), row.at_ms)
            took.setdefault(family, []).append((row.at_ms - start) / 1000)
            failed[family] += isinstance(event, StageFailed) and event.code not in ("handed_back", "parked")
    times = [
        StageTime(family, len(all_s), statistics.median(all_s), max(all_s), failed[family])
        for family, all_s in took.items()
    ]
    return jobs, sorted(times, key=lambda one: -one.max_s)[:_SLOWEST]
