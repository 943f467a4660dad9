"""Where a memory came from: the words around each quote, the model call that kept it, the decision that placed it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from lerim_jobs.errors import JobsError
from lerim_jobs.jobs import job as jobs
from lerim_jobs.jobs.given_back import gave_back
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.kinds import known_stage
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import MemoryAdded, MemoryReverted, MemoryUpdated, ModelCalled, Quote
from lerim_jobs.log.projection import find
from lerim_jobs.log.store import Store
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.stored import memory_stream
from lerim_jobs.sessions.ranges import holds
from lerim_jobs.sessions.session import SESSIONS
from lerim_jobs.sessions.stored import stored_turns
from lerim_jobs.sessions.transcript import Turn, contains

__all__ = ["Call", "Decision", "Origin", "origins"]

_AROUND = 1
"""Turns shown before and after the one that was quoted."""


class Call(msgspec.Struct, frozen=True):
    """A model call as the log has it. `span_id` is the span it was made under, in the trace of its job."""

    role: str
    model: str
    provider: str
    stage: str
    tokens_in: int
    tokens_out: int
    cost_usd: float | None
    trace_id: str | None
    span_id: str | None


class Decision(msgspec.Struct, frozen=True):
    """What put a memory, or a quote, where it is. `span_id` is the attempt's; `agent` is the one that proposed it, and None where
    a person did it, and where nothing had to be asked.
    """

    action: str
    reason: str
    agent: str | None
    model: str | None
    job_id: str | None
    stage: str | None
    attempt: int | None
    trace_id: str | None
    span_id: str | None


class Origin(msgspec.Struct, frozen=True):
    """One quote. `around` are the turns near it, its own included; empty when the transcript is gone. `taken_back` are the
    numbers of those that the user took back.
    """

    quote: Quote
    around: list[Turn]
    kept_by: Call | None
    placed_by: Decision | None
    taken_back: list[int] = []


def origins(store: Store, memory: Memory) -> list[Origin]:
    """One for each quote of the memory, in their order."""
    rows = store.read(memory_stream(memory.memory_id))
    return [_origin(store, memory, quote, rows) for quote in memory.quotes]


def _origin(store: Store, memory: Memory, quote: Quote, rows: Sequence[Recorded]) -> Origin:
    row = next((row for row in rows if _brought(row, quote)), None)
    kept_row, kept_quote = (row, quote) if row is None else _first_of(store, row, quote)
    around = _around(store, quote)
    session = find(store, SESSIONS, quote.stream) if around else None
    return Origin(
        quote=quote,
        around=around,
        taken_back=[turn.n for turn in around if session and holds(session.withdrawn, turn.n)],
        kept_by=_call(store, kept_row.meta, kept_quote) if kept_row else None,
        placed_by=_decision(store, row, proposed=memory.kind != "summary") if row else None,
    )


def _brought(row: Recorded, quote: Quote) -> bool:
    event = row.event
    return isinstance(event, MemoryAdded | MemoryUpdated | MemoryReverted) and quote in event.quotes


def _first_of(store: Store, row: Recorded, quote: Quote) -> tuple[Recorded, Quote]:
    """A merge brings quotes of other memories along: the call that kept one is where that memory got it."""
    absorbed = [
        other.stream
        for other in store.read_all(row.position, 50, ("MemoryMerged",))
        if other.meta.get("job_id") == row.meta.get("job_id")
    ]
    placed = known_stage(str(row.meta.get("stage", "")))
    for stream in absorbed if placed and placed.absorbs else ():
        for earlier in store.read(stream):
            if _brought(earlier, quote):
                return _first_of(store, earlier, quote)
    return row, quote


def _decision(store: Store, row: Recorded, *, proposed: bool) -> Decision:
    event = row.event
    placed = known_stage(str(row.meta.get("stage", "")))
    updated = "merged" if placed and placed.absorbs else "updated"
    asked = proposed and placed is not None and any(_calls(store, row.meta.get("job_id"), str(row.meta.get("stage"))))
    return Decision(
        action={"MemoryAdded": "added", "MemoryUpdated": updated}.get(row.type, "restored"),
        reason=getattr(event, "reason", ""),
        agent=placed.agent or None if placed and asked else None,
        model=getattr(event, "model", None),
        job_id=row.meta.get("job_id"),
        stage=row.meta.get("stage"),
        attempt=row.meta.get("attempt"),
        trace_id=row.meta.get("trace_id"),
        span_id=row.meta.get("span_id"),
    )


def _call(store: Store, meta: Mapping[str, Any], quote: Quote) -> Call | None:
    """The extraction's last call of the window whose candidate has this quote; a summary's the last of the stage that gave it."""
    job_id, stage = meta.get("job_id"), meta.get("stage")
    try:
        work = jobs.load(store, job_id) if job_id else None
    except JobsError:
        return None
    placed = work.stages.get(stage or "") if work else None
    if work is None or placed is None:
        return None
    needs = placed.requested.needs if placed.requested else []
    stages = [work.stages[name] for name in needs if name in work.stages]
    kept = [one.name for one in stages if _has(one.output, quote)]
    kept = kept or [one.name for one in stages if "body" in one.output]
    jobs_asked = [work.job_id, *gave_back(store, quote.stream)]  # a later job uses what an earlier one has paid for
    calls = ([row for name in kept[:1] for row in _calls(store, asked, name)] for asked in jobs_asked)
    found = next(filter(None, calls), [])
    return _as_call(found[-1]) if found else None


def _calls(store: Store, job_id: str | None, stage: str) -> Iterator[Recorded]:
    """The model calls of a stage of a job, in their order."""
    for row in store.read(job_stream(job_id)) if job_id else ():
        if isinstance(row.event, ModelCalled) and row.event.stage == stage:
            yield row


def _has(output: Mapping[str, Any], quote: Quote) -> bool:
    found = output.get("candidates", ())
    return any(contains(one.get("quote", ""), quote.text) for one in found)


def _as_call(row: Recorded) -> Call:
    event = row.event
    assert isinstance(event, ModelCalled)
    return Call(
        role=event.role,
        model=event.model,
        provider=event.provider,
        stage=event.stage,
        tokens_in=event.tokens_in,
        tokens_out=event.tokens_out,
        cost_usd=event.cost_usd,
        trace_id=row.meta.get("trace_id"),
        span_id=row.meta.get("span_id"),
    )


def _around(store: Store, quote: Quote) -> list[Turn]:
    session = find(store, SESSIONS, quote.stream)
    try:
        around = (quote.turn - _AROUND, quote.turn + _AROUND + 1)
        return stored_turns(store, session, *around, withdrawn=True) if session else []
    except JobsError:
        return []
