"""Claims: who may run a stage now, and whose result counts.

A claim is a lease in the store, measured by the store's clock and fenced on (attempt, owner). Everything a worker wants
to keep goes through `complete`, `fail` or `release`; each checks the fence first, so a worker that lost its lease can
change nothing. Attempts that died without a word count too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from lerim_jobs.errors import ConfigError, ConflictError
from lerim_jobs.jobs import budget, deaths, pausing
from lerim_jobs.jobs.settlement import FINISH, advance, end_job, job_stream, plan
from lerim_jobs.log.events import (
    Event,
    StageCompleted,
    StageFailed,
    StageQuarantined,
    StageRequested,
    StageStarted,
)
from lerim_jobs.log.store import ANY, BLOB_OVER_BYTES, Identified, StageRow, Store, Tx

__all__ = [
    "LEASE_MS",
    "Claim",
    "Effect",
    "End",
    "Refused",
    "Settled",
    "claim",
    "complete",
    "fail",
    "holds",
    "lease_ms",
    "release",
    "renew",
    "still_holds",
    "wake",
]

LEASE_MS = 30_000

Alive = Callable[[str], bool | None]
"""Whether the process behind an owner still runs; None: cannot tell from here."""


class Claim(msgspec.Struct, frozen=True):
    """The right to run one attempt of a stage until the lease ends."""

    job_id: str
    stage: str
    attempt: int
    owner: str
    queue: str
    lane: str | None
    started_ms: int
    takeover: bool
    strikes: int
    """Attempts so far that failed or died, this one included until it is handed back."""


class Refused(msgspec.Struct, frozen=True):
    """Why a hint leads nowhere now, and stages that became ready while finding out."""

    reason: str
    freed: list[StageRow] = []


class Settled(msgspec.Struct, frozen=True):
    """A committed outcome: stages that may start at their due time, and whether the job ended with it."""

    freed: list[StageRow] = []
    ended: bool = False


class Effect(msgspec.Struct, frozen=True):
    """Events a stage adds to a stream when it commits; `expected` is the version it decided on."""

    stream: str
    events: Sequence[Event]
    expected: int = ANY


class End(msgspec.Struct, frozen=True):
    """How the job ends; only the `finish` stage gives one."""

    status: Any
    result: dict[str, Any]
    error: str | None = None


def claim(
    store: Store,
    job_id: str,
    stage: str,
    owner: str,
    *,
    alive: Alive,
    max_attempts: int,
    lease_ms: int = LEASE_MS,
    meta: Mapping[str, Any] | None = None,
) -> Claim | Refused:
    """Take the stage if it may run now. A stage whose attempts are used up is quarantined here."""
    with store.write() as tx:
        row, now = tx.stage(job_id, stage), tx.now_ms()
        if row is None:
            return Refused("unknown or finished")
        if reason := _not_now(tx, row, now, alive):
            return Refused(reason)
        about = {**(meta or {}), "job_id": job_id, "stage": stage, "attempt": row.attempt + 1}
        died, lost = deaths.in_a_row(tx, row), _lost(tx, row, lease_ms)
        if row.strikes >= max_attempts:
            freed = _bury(tx, row, f"the worker died at it: {row.strikes} of {row.strikes} strikes", about, lost=lost)
            return Refused("quarantined", freed)
        if deaths.in_the_way(tx, owner, died):
            return Refused("another suspect runs in this process")
        deaths.begin(tx, row, owner, died)
        budget.park(tx, job_id, stage, None)
        return _begun(tx, row, owner, lost=lost, lease_ms=lease_ms, about=about)


def lease_ms(env: Mapping[str, str]) -> int:
    """How long a lease lasts: `LERIM_LEASE_S` seconds, else 30. Raises ConfigError."""
    given = env.get("LERIM_LEASE_S", "").strip()
    if not given:
        return LEASE_MS
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 3600:
        raise ConfigError(f"LERIM_LEASE_S={given!r}: must be 1 to 3600 seconds")
    return int(seconds * 1000)


def holds(tx: Tx, held: Claim) -> bool:
    """Whether the claim still holds: nobody else took the stage, and it is not settled."""
    return _fenced(tx, held) is not None


def renew(store: Store, held: Claim, *, lease_ms: int = LEASE_MS) -> bool:
    """Extend the lease. False: it was lost, stop working."""
    with store.write() as tx:
        row = _fenced(tx, held)
        if row:
            tx.save_stage(msgspec.structs.replace(row, lease_until_ms=tx.now_ms() + lease_ms))
        return row is not None


def still_holds(store: Store, held: Claim) -> bool:
    """Whether the claim is still the stage's: a read, so that it may be asked often."""
    return _is_held(store.stage(held.job_id, held.stage), held)


def complete(
    store: Store,
    held: Claim,
    *,
    output: dict[str, Any],
    effects: Sequence[Effect] = (),
    blobs: Sequence[bytes] = (),
    next_stages: Sequence[StageRequested] = (),
    end: End | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Settled | None:
    """Commit a stage: its effects, its output and what comes next, in one transaction.

    None: the lease was lost, nothing was written. Raises ConflictError when an effect's stream moved on.
    """
    about = _about(held, meta)
    with store.write() as tx:
        row = _fenced(tx, held)
        if row is None:
            return None
        for blob in blobs:
            tx.put_blob(blob)
        for effect in effects:
            tx.append(effect.stream, effect.events, expected=effect.expected, meta=about)
        tx.append(job_stream(held.job_id), [Identified(_outcome_id(held), _completed(tx, held, output))], meta=about)
        tx.save_stage(msgspec.structs.replace(row, state="done", owner=None, lease_until_ms=0))
        deaths.forget(tx, row)
        freed = plan(tx, held.job_id, next_stages, meta=about)
        if end:
            end_job(tx, held.job_id, status=end.status, result=end.result, error=end.error, meta=about)
        return Settled(_with_lane(tx, freed, held.lane), ended=end is not None)


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
    waits_for: bytes | None = None,
    detail: str = "",
    meta: Mapping[str, Any] | None = None,
) -> Settled | None:
    """Record a failed attempt and free the lease at once. `retry_in_ms` None gives the stage up.

    Without `strike` the attempt does not count against the stage; `waits_for` is what a parked one waits for.
    None: the lease was lost, nothing was written.
    """
    about = _about(held, meta)
    with store.write() as tx:
        row = _fenced(tx, held)
        if row is None:
            return None
        retry_at = None if retry_in_ms is None else tx.now_ms() + retry_in_ms
        failed = StageFailed(
            stage=held.stage,
            attempt=held.attempt,
            error_type=error_type,
            code=code,
            message=message,
            frames=list(frames),
            retry_at_ms=retry_at,
            detail=detail,
        )
        tx.append(job_stream(held.job_id), [Identified(_outcome_id(held), failed)], meta=about)
        deaths.forget(tx, row)
        if retry_at is None:
            freed = _bury(tx, row, f"{error_type}: {message}" if message else error_type, about)
            return Settled(freed, ended=held.stage == FINISH)
        again = _free(tx, row, due_ms=retry_at, strikes=row.strikes if strike else row.strikes - 1)
        if waits_for:
            budget.park(tx, held.job_id, held.stage, waits_for)
        return Settled(_with_lane(tx, [again], held.lane))


def release(store: Store, held: Claim, *, meta: Mapping[str, Any] | None = None) -> bool:
    """Hand a stage back unfinished because this worker stops: due at once, for anybody. False: lease was lost."""
    about = _about(held, meta)
    with store.write() as tx:
        row = _fenced(tx, held)
        if row is None:
            return False
        handed = StageFailed(
            stage=held.stage,
            attempt=held.attempt,
            error_type="HandedBack",
            code="handed_back",
            message="the worker stopped",
            retry_at_ms=tx.now_ms(),
        )
        tx.append(job_stream(held.job_id), [Identified(_outcome_id(held), handed)], meta=about)
        _free(tx, row, due_ms=tx.now_ms(), strikes=row.strikes - 1)
        return True


def wake(store: Store, job_id: str, stage: str) -> StageRow | None:
    """Make a parked stage due now and return it to be sent; None: it is parked no more."""
    with store.write() as tx:
        row = tx.stage(job_id, stage)
        budget.park(tx, job_id, stage, None)
        if row is None or row.state != "ready":
            return None
        return _free(tx, row, due_ms=tx.now_ms(), strikes=row.strikes)


def _not_now(tx: Tx, row: StageRow, now: int, alive: Alive) -> str | None:
    if row.state not in ("ready", "running"):
        return row.state
    if pausing.holds(tx, row):
        return "paused"
    if row.state == "running" and _held(row, now, alive):
        return "leased"
    if row.state == "ready" and row.due_ms > now:
        return "not due yet"
    if row.lane:
        others = [other for other in tx.lane(row.lane) if (other.job_id, other.stage) != (row.job_id, row.stage)]
        if any(other.state == "running" and _held(other, now, alive) for other in others):
            return "lane busy"
    return None


def _begun(tx: Tx, row: StageRow, owner: str, *, lost: str | None, lease_ms: int, about: Mapping[str, Any]) -> Claim:
    """Count the attempt and give the lease to the owner. Every attempt is a strike until it ends with another word."""
    now, attempt, strikes = tx.now_ms(), row.attempt + 1, row.strikes + 1
    takeover = row.state == "running"
    started = StageStarted(
        stage=row.stage, attempt=attempt, worker=owner, ready_ms=row.due_ms, takeover=takeover, lost=lost
    )
    tx.append(job_stream(row.job_id), [Identified(f"{row.job_id}:{row.stage}:{attempt}:started", started)], meta=about)
    claimed = msgspec.structs.replace(
        row, state="running", attempt=attempt, strikes=strikes, owner=owner, lease_until_ms=now + lease_ms
    )
    tx.save_stage(claimed)
    return Claim(row.job_id, row.stage, attempt, owner, row.queue, row.lane, now, takeover, strikes)


def _held(row: StageRow, now: int, alive: Alive) -> bool:
    """A lease holds until it expires, or until its process is known to be gone."""
    return row.lease_until_ms > now and alive(row.owner or "") is not False


def _fenced(tx: Tx, held: Claim) -> StageRow | None:
    row = tx.stage(held.job_id, held.stage)
    return row if _is_held(row, held) else None


def _is_held(row: StageRow | None, held: Claim) -> bool:
    return row is not None and (row.state, row.attempt, row.owner) == ("running", held.attempt, held.owner)


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


def _lost(tx: Tx, row: StageRow, lease_ms: int) -> str | None:
    return deaths.how(tx, row, lease_ms=lease_ms) if row.state == "running" else None


def _bury(tx: Tx, row: StageRow, reason: str, about: Mapping[str, Any], *, lost: str | None = None) -> list[StageRow]:
    """Quarantine a stage; without `finish` a job could never end, so a dead one fails the job right here."""
    gone = StageQuarantined(
        stage=row.stage, attempts=row.attempt, reason=f"{reason}, {lost}" if lost else reason, lost=lost
    )
    # A stage that was given another chance may be quarantined again, after more attempts.
    event_id = f"{row.job_id}:{row.stage}:quarantined:{row.attempt}"
    with suppress(ConflictError):
        tx.append(job_stream(row.job_id), [Identified(event_id, gone)], meta=about)
    deaths.forget(tx, row)
    tx.save_stage(msgspec.structs.replace(row, state="dead", owner=None, lease_until_ms=0))
    if row.stage == FINISH:
        end_job(tx, row.job_id, status="failed", result={}, error=f"finish: {reason}", meta=about)
        return []
    return _with_lane(tx, advance(tx, row.job_id, meta=about), row.lane)


def _with_lane(tx: Tx, freed: list[StageRow], lane: str | None) -> list[StageRow]:
    """The freed stages, and the oldest one that was refused because this lane was busy."""
    if lane is None:
        return freed
    now = tx.now_ms()
    due = (row for row in tx.lane(lane) if row.state == "ready" and row.due_ms <= now)
    waiting = [row for row in due if not pausing.holds(tx, row)]
    return freed + [row for row in waiting[:1] if row not in freed]


def _outcome_id(held: Claim) -> str:
    return f"{held.job_id}:{held.stage}:{held.attempt}:outcome"


def _about(held: Claim, meta: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**(meta or {}), "job_id": held.job_id, "stage": held.stage, "attempt": held.attempt}
