"""Claims: who may run a stage now, and for how long.

A claim is a lease in the store, measured by the store's clock and fenced on (attempt, owner). What a worker wants to keep goes
through `outcomes.py`, which checks the fence first. Attempts that died without a word count too.

Taking and renewing need not wait for the disk: a machine that crashes may forget a claim, then the stage is ready again and
whoever held it is fenced out; an outcome that was kept carries its claim along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from lerim_jobs.errors import ConfigError
from lerim_jobs.jobs import deaths, parking, pausing
from lerim_jobs.jobs.burial import bury
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.log.events import StageStarted
from lerim_jobs.log.store import Identified, StageRow, Store, Tx

__all__ = [
    "LEASE_MS",
    "Alive",
    "Claim",
    "Refused",
    "claim",
    "fenced",
    "holds",
    "lease_ms",
    "renew",
    "still_holds",
    "take",
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
    input: bytes = b"{}"
    """What the plan gave the stage, as JSON."""


class Refused(msgspec.Struct, frozen=True):
    """Why a hint leads nowhere now, and stages that became ready while finding out."""

    reason: str
    freed: list[StageRow] = []


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
    with store.write(durable=False) as tx:
        row = tx.stage(job_id, stage)
        if row is None:
            return Refused("unknown or finished")
        return take(tx, row, owner, alive=alive, max_attempts=max_attempts, lease_ms=lease_ms, meta=meta)


def take(
    tx: Tx,
    row: StageRow,
    owner: str,
    *,
    alive: Alive,
    max_attempts: int,
    lease_ms: int = LEASE_MS,
    meta: Mapping[str, Any] | None = None,
) -> Claim | Refused:
    """`claim` within a transaction that does more."""
    if reason := _not_now(tx, row, alive):
        return Refused(reason)
    about = {**(meta or {}), "job_id": row.job_id, "stage": row.stage, "attempt": row.attempt + 1}
    died, lost = deaths.in_a_row(tx, row), _lost(tx, row, lease_ms)
    if row.strikes >= max_attempts:
        reason = f"the worker died at it: {row.strikes} of {row.strikes} strikes"
        return Refused("quarantined", bury(tx, row, reason, about, lost=lost))
    if deaths.in_the_way(tx, owner, died):
        return Refused("another suspect runs in this process")
    deaths.begin(tx, row, owner, died)
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


def fenced(tx: Tx, held: Claim) -> StageRow | None:
    """The stage's row while the claim holds; None when somebody else took the stage, or it is settled."""
    row = tx.stage(held.job_id, held.stage)
    return row if _is_held(row, held) else None


def holds(tx: Tx, held: Claim) -> bool:
    """Whether the claim still holds."""
    return fenced(tx, held) is not None


def renew(store: Store, held: Iterable[Claim], *, lease_ms: int = LEASE_MS) -> list[Claim]:
    """Extend the leases, all in one transaction, and return the claims that were lost: stop working for them."""
    lost = []
    with store.write(durable=False) as tx:
        for one in held:
            if row := fenced(tx, one):
                tx.save_stage(msgspec.structs.replace(row, lease_until_ms=tx.now_ms() + lease_ms))
            else:
                lost.append(one)
    return lost


def still_holds(store: Store, held: Claim) -> bool:
    """Whether the claim is still the stage's: a read, so that it may be asked often."""
    return _is_held(store.stage(held.job_id, held.stage), held)


def wake(store: Store, job_id: str, stage: str) -> StageRow | None:
    """Make a parked stage ready and return it to be sent; None: it is parked no more."""
    with store.write() as tx:
        row = tx.stage(job_id, stage)
        if row is None or row.state != "parked":
            parking.forget(tx, job_id, stage)
            return None
        parking.note_woken(tx, job_id, stage)
        now = tx.now_ms()
        woken = msgspec.structs.replace(row, state="ready", due_ms=now, sent_ms=now)
        tx.save_stage(woken)
        return woken


def _not_now(tx: Tx, row: StageRow, alive: Alive) -> str | None:
    now = tx.now_ms()
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
    if row.attempt:
        parking.forget(tx, row.job_id, row.stage)
    claimed = msgspec.structs.replace(
        row, state="running", attempt=attempt, strikes=strikes, owner=owner, lease_until_ms=now + lease_ms
    )
    tx.save_stage(claimed)
    return Claim(row.job_id, row.stage, attempt, owner, row.queue, row.lane, now, takeover, strikes, row.input)


def _held(row: StageRow, now: int, alive: Alive) -> bool:
    """A lease holds until it expires, or until its process is known to be gone."""
    return row.lease_until_ms > now and alive(row.owner or "") is not False


def _is_held(row: StageRow | None, held: Claim) -> bool:
    return row is not None and (row.state, row.attempt, row.owner) == ("running", held.attempt, held.owner)


def _lost(tx: Tx, row: StageRow, lease_ms: int) -> str | None:
    return deaths.how(tx, row, lease_ms=lease_ms) if row.state == "running" else None
