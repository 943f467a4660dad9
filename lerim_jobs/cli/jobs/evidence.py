"""Evidence of a stage that was given up: each attempt and how it ended, the last model call, the last span."""

from __future__ import annotations

from typing import Any

from lerim_jobs.api.state import State
from lerim_jobs.clock import iso
from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.jobs.attempts import Attempt
from lerim_jobs.jobs.job import fold
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import ModelCalled, StageQuarantined, StageStarted
from lerim_jobs.tracing.local.store import SpanStore
from lerim_jobs.tracing.skeleton.record import SpanRecord
from lerim_jobs.tracing.skeleton.spans import attempt_span_id

__all__ = ["evidence"]


def evidence(state: State, job_id: str, stage: str) -> dict[str, Any]:
    """What the log and the local span store know."""
    rows = state.store.read(job_stream(job_id))
    job = fold(rows)
    known = job.stages.get(stage) if job else None
    attempts = known.in_order() if known else []
    lost = _lost(rows, stage)
    calls = [row for row in rows if isinstance(row.event, ModelCalled) and row.event.stage == stage]
    trace_id = job.trace_id if job else ""
    return {
        "attempts": [_attempt(one, lost.get(one.number)) for one in attempts],
        "last_model_call": iso(calls[-1].at_ms) if calls else None,
        "last_span": _last_span(state, trace_id, stage, attempts) if attempts and trace_id else None,
    }


def _attempt(one: Attempt, lost: str | None) -> dict[str, Any]:
    error = f"{one.failed.error_type}: {one.failed.message}" if one.failed else lost
    return {
        "attempt": one.number,
        "worker": one.worker,
        "started_at": iso(one.started_ms),
        "ended_at": iso(one.ended_ms),
        "outcome": one.outcome,
        "error": error,
    }


def _lost(rows: list[Recorded], stage: str) -> dict[int, str]:
    """How attempts that died without a word ended, by their number: whoever came next wrote it down."""
    found: dict[int, str] = {}
    for row in rows:
        event = row.event
        if isinstance(event, StageStarted) and event.stage == stage and event.lost:
            found[event.attempt - 1] = event.lost
        elif isinstance(event, StageQuarantined) and event.stage == stage and event.lost:
            found[event.attempts] = event.lost
    return found


def _last_span(state: State, trace_id: str, stage: str, attempts: list[Attempt]) -> dict[str, Any]:
    """The one that began last below an attempt; the last attempt itself where nothing below it reached the store."""
    mine = {attempt_span_id(trace_id, stage, one.number) for one in attempts}
    last = attempts[-1]
    about = {"trace_id": trace_id, "span_id": attempt_span_id(trace_id, stage, last.number), "name": stage}
    try:
        spans = {span.span_id: span for span in SpanStore(state.home.traces).of_trace(trace_id)}
    except StoreUnavailable:
        spans = {}
    below = [span for span in spans.values() if span.span_id not in mine and _is_below(span, mine, spans)]
    if below:
        found = max(below, key=lambda span: span.start_ns)
        about |= {"span_id": found.span_id, "name": found.name}
    return about


def _is_below(span: SpanRecord, mine: set[str], spans: dict[str, SpanRecord]) -> bool:
    seen: set[str] = set()
    parent = span.parent_span_id
    while parent and parent not in seen:
        if parent in mine:
            return True
        seen.add(parent)
        parent = spans[parent].parent_span_id if parent in spans else None
    return False
