"""Outcomes: what a worker wants to keep of an attempt, checked against the fence and written in one transaction.

A worker that lost its lease can change nothing. Whoever completes a stage may take one it freed in the same transaction, which
saves that stage its way through the queue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from lerim_jobs.jobs import deaths, parking, sums
from lerim_jobs.jobs.burial import bury, with_lane
from lerim_jobs.jobs.claims import Claim, Refused, fenced
from lerim_jobs.jobs.settlement import LAST, end_job, job_stream, plan, settle
from lerim_jobs.kinds.kind import project_of
from lerim_jobs.log.events import Event, StageCompleted, StageFailed, StageRequested
from lerim_jobs.log.store import ANY, BLOB_OVER_BYTES, Identified, StageRow, Store, Tx

__all__ = ["Effect", "End", "Settled", "TakeNext", "checkpoint", "complete", "fail", "park", "release"]

TakeNext = Callable[[Tx, StageRow], Claim | Refused | None]
"""Claims a stage that was just freed, within the transaction; None: it is left to the queue."""


class Settled(msgspec.Struct, frozen=True):
    """A committed outcome: stages that may start at their due time, the one that was taken at once, whether the job ended."""

    freed: list[StageRow] = []
    ended: bool = False
    taken: Claim | None = None


class Effect(msgspec.Struct, frozen=True):
    """Events a stage adds to a stream when it commits; `expected` is the version it decided on."""

    stream: str
    events: Sequence[Event]
    expected: int = ANY


class End(msgspec.Struct, frozen=True):
    """How the job ends; only its last stage gives one."""

    status: Any
    result: dict[str, Any]
    error: str | None = None


def checkpoint(
    store: Store,
    held: Claim,
    *,
    effects: Sequence[Effect],
    blobs: Sequence[bytes] = (),
    meta: Mapping[str, Any] | None = None,
) -> bool:
    """Commit a part of what a stage has to add, while it goes on; another attempt continues behind it.

    False: the lease was lost, nothing was written. Raises ConflictError when an effect's stream moved on.
    """
    about = _about(held, meta)
    with store.write() as tx:
        if fenced(tx, held) is None:
            return False
        for blob in blobs:
            tx.put_blob(blob)
        for effect in effects:
            tx.append(effect.stream, effect.events, expected=effect.expected, meta=about)
        return True


def complete(
    store: Store,
    held: Claim,
    *,
    output: dict[str, Any],
    effects: Sequence[Effect] = (),
    blobs: Sequence[bytes] = (),
    next_stages: Sequence[StageRequested] = (),
    end: End | None = None,
    take_next: TakeNext | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Settled | None:
    """Commit a stage: its effects, its output and what comes next, in one transaction.

    None: the lease was lost, nothing was written. Raises ConflictError when an effect's stream moved on.
    """
    about = _about(held, meta)
    with store.write() as tx:
        row = fenced(tx, held)
        if row is None:
            return None
        for blob in blobs:
            tx.put_blob(blob)
        for effect in effects:
            tx.append(effect.stream, effect.events, expected=effect.expected, meta=about)
        stream = job_stream(held.job_id)
        outcome = tx.append(stream, [Identified(_outcome_id(held), _completed(tx, held, output))], meta=about)
        if end:
            end_job(tx, held.job_id, status=end.status, result=end.result, error=end.error, meta=about)
            return Settled(ended=True)
        sums.add(tx, held.job_id, held.stage, output, project_id=project_of(msgspec.json.decode(row.input)))
        freed = [*plan(tx, held.job_id, next_stages, meta=about), *settle(tx, row, "done", outcome, meta=about)]
        return _handed_on(tx, with_lane(tx, freed, held.lane), take_next)


def fail(
    store: Store,
    held: Claim,
    *,
    error_type: str,
    code: str,
    message: str,
    frames: Sequence[str] = (),
    retry_in_ms: int | None,
    strike: bool = True,
    detail: str = "",
    meta: Mapping[str, Any] | None = None,
) -> Settled | None:
    """Record a failed attempt and free the lease at once. `retry_in_ms` None gives the stage up.

    Without `strike` the attempt does not count against the stage. None: the lease was lost, nothing was written.
    """
    about = _about(held, meta)
    with store.write() as tx:
        row = fenced(tx, held)
        if row is None:
            return None
        retry_at = None if retry_in_ms is None else tx.now_ms() + retry_in_ms
        failed = StageFailed(held.stage, held.attempt, error_type, code, message, list(frames), retry_at, detail)
        tx.append(job_stream(held.job_id), [Identified(_outcome_id(held), failed)], meta=about)
        if retry_at is None:
            reason = f"{error_type}: {message}" if message else error_type
            return Settled(bury(tx, row, reason, about), ended=held.stage == LAST)
        deaths.forget(tx, row)
        again = _free(tx, row, due_ms=retry_at, strikes=row.strikes if strike else row.strikes - 1)
        return Settled(with_lane(tx, [again], held.lane))


def park(
    store: Store, held: Claim, *, waits_for: bytes, message: str, meta: Mapping[str, Any] | None = None
) -> Settled | None:
    """Put a stage aside until there is room under a cap for what it `waits_for`: no strike, and no time at which it is due.

    None: the lease was lost, nothing was written.
    """
    about = _about(held, meta)
    with store.write() as tx:
        row = fenced(tx, held)
        if row is None:
            return None
        failed = StageFailed(held.stage, held.attempt, "Parked", "parked", message)
        tx.append(job_stream(held.job_id), [Identified(_outcome_id(held), failed)], meta=about)
        deaths.forget(tx, row)
        parked = msgspec.structs.replace(
            row, state="parked", owner=None, lease_until_ms=0, due_ms=0, sent_ms=0, strikes=row.strikes - 1
        )
        tx.save_stage(parked)
        parking.note(tx, held.job_id, held.stage, waits_for)
        return Settled(with_lane(tx, [], held.lane))


def release(store: Store, held: Claim, *, meta: Mapping[str, Any] | None = None) -> bool:
    """Hand a stage back unfinished because this worker stops: due at once, for anybody. False: lease was lost."""
    about = _about(held, meta)
    with store.write() as tx:
        row = fenced(tx, held)
        if row is None:
            return False
        handed = StageFailed(
            held.stage, held.attempt, "HandedBack", "handed_back", "the worker stopped", retry_at_ms=tx.now_ms()
        )
        tx.append(job_stream(held.job_id), [Identified(_outcome_id(held), handed)], meta=about)
        _free(tx, row, due_ms=tx.now_ms(), strikes=row.strikes - 1)
        return True


def _handed_on(tx: Tx, freed: list[StageRow], take_next: TakeNext | None) -> Settled:
    for row in freed if take_next else ():
        assert take_next is not None
        got = take_next(tx, row)
        if isinstance(got, Refused):
            freed = [*freed, *got.freed]
        elif got is not None:
            return Settled([one for one in freed if one is not row], taken=got)
    return Settled(freed)


def _completed(tx: Tx, held: Claim, output: dict[str, Any]) -> StageCompleted:
    data = msgspec.json.encode(output)
    if len(data) <= BLOB_OVER_BYTES:
        return StageCompleted(stage=held.stage, attempt=held.attempt, output=output)
    return StageCompleted(stage=held.stage, attempt=held.attempt, output_blob=tx.put_blob(data))


def _free(tx: Tx, row: StageRow, *, due_ms: int, strikes: int) -> StageRow:
    freed = msgspec.structs.replace(
        row, state="ready", owner=None, lease_until_ms=0, due_ms=due_ms, sent_ms=due_ms, strikes=strikes
    )
    tx.save_stage(freed)
    return freed


def _outcome_id(held: Claim) -> str:
    return f"{held.job_id}:{held.stage}:{held.attempt}:outcome"


def _about(held: Claim, meta: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**(meta or {}), "job_id": held.job_id, "stage": held.stage, "attempt": held.attempt}
