"""Paid twice: a finished answer that was asked for and recorded again.

Two attempts that had both sent the same request before either was answered are no breach: a crash, or a worker thought
dead, can cost the call that was in flight. They are counted beside it.
"""

from __future__ import annotations

from lerim_jobs.audit.finding import Breach, Zero
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import ModelCalled
from lerim_jobs.log.scan import scan
from lerim_jobs.log.store import Store
from lerim_jobs.providers import OFFLINE

__all__ = ["paid_twice"]

_SLACK_MS = 5_000


def paid_twice(store: Store) -> Zero:
    """Every answered call against the first with its job, stage, request and occurrence."""
    first: dict[int, tuple[int, int]] = {}
    breaches: list[Breach] = []
    in_flight = calls = 0
    for row in scan(store, ("ModelCalled",)):
        call = row.as_(ModelCalled)
        calls += 1
        key = hash((row.stream, call.stage, call.request_hash, call.occurrence))
        known = first.setdefault(key, (row.version, row.at_ms))
        if known[0] == row.version or call.provider == OFFLINE:
            continue
        if _asked_after(row, call, known):
            what = f"{call.stage} asked {call.model_asked} again in attempt {call.attempt} for an answer it had"
            breaches.append(Breach(f"{row.stream.removeprefix('job-')} event {row.position}", what))
        else:
            in_flight += 1
    advice = "keep the log and report it: finished answers must be replayed (`lerim jobs show JOB`)"
    return Zero("paid_twice", breaches, {"model_calls": calls}, advice, {"in_flight_twice": in_flight})


def _asked_after(row: Recorded, call: ModelCalled, first: tuple[int, int]) -> bool:
    """Whether the first answer stood in the log when this request was let out."""
    if call.asked_version is not None:
        return first[0] <= call.asked_version
    return first[1] < row.at_ms - call.duration_ms - _SLACK_MS
