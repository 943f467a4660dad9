"""Admission of model calls: money and token caps, and what a provider may be asked at once, across all workers.

A call reserves an upper bound of its cost before it is made and is settled with its real cost in the transaction that
stores its answer; where nobody will know that cost, because the call timed out or was cancelled, with all that was
reserved. Spent plus reserved never passes a cap, whoever else is calling. What a dead worker had reserved counts until
the call must be over: the provider may still bill it. A call that cannot fit even when everybody else is done
parks; one that only has to wait for others waits.

The sums are read models of `ModelCalled`, kept in the same transaction because the next admission needs them exactly;
`recount.py` makes them anew.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import msgspec

from lerim_jobs.config import Budget, Settings
from lerim_jobs.jobs.caps import Cap, Spent, Wish, amount, caps, counts_against, day, parked
from lerim_jobs.log.codec import encode
from lerim_jobs.log.events import CAPS_STREAM, BillPresumed, CapsChanged, ModelCalled, ModelCallFailed
from lerim_jobs.log.store import Store, Tx

__all__ = [
    "PAID",
    "SPENT",
    "PaidEvent",
    "Reservation",
    "Room",
    "added",
    "admit",
    "drop",
    "expire",
    "forget_job",
    "reservations",
    "settle",
    "spent",
    "sum_keys",
    "used_by",
]

SPENT = "_spent"
"""Read model: `Spent` by day, by day and role, and by unfinished job."""

PaidEvent = ModelCalled | ModelCallFailed | BillPresumed
PAID = ("ModelCalled", "ModelCallFailed", "BillPresumed")
"""What takes from the caps, and the names of these events."""

_CAPS = "_caps"
_OPEN = "_reserved"
_KEY = "calls"
_MINUTE_MS = 60_000

Alive = Callable[[str], bool | None]


class _Held(msgspec.Struct, frozen=True, array_like=True):
    wish: Wish
    at_ms: int
    day: str


class Reservation(msgspec.Struct, frozen=True):
    """An open reservation: who made it, and until when the call may last at most."""

    key: str
    owner: str
    until_ms: int


class _Calls(msgspec.Struct):
    """Open reservations by key, and when each limited provider was called during the last minute."""

    open: dict[str, _Held] = {}
    starts: dict[str, list[int]] = {}


class Room:
    """What is used and reserved now, each sum read once."""

    def __init__(self, store: Store) -> None:
        self._store, self._calls = store, _load(store)
        _expire(self._calls, store.now_ms())
        self._sums: dict[str, Spent] = {}

    def used(self, cap: Cap, wish: Wish) -> float:
        """Of the cap's limit, what others have spent or reserved."""
        if cap.sum_key not in self._sums:
            self._sums[cap.sum_key] = _spent(self._store, cap.sum_key)
        return amount(self._sums[cap.sum_key], cap) + _reserved(self._calls, cap, wish)


def admit(
    store: Store,
    key: str,
    wish: Wish,
    settings: Settings,
    *,
    alive: Alive,
    first: Callable[[Tx], None] = lambda tx: None,
) -> float:
    """Reserve, and return 0; or return the seconds to wait before asking again. Raises Parked.

    `first` looks at the log in the same transaction and may raise: then nothing is reserved.
    """
    with store.write() as tx:
        _note_caps(tx, settings.budget)
        first(tx)
        calls, now = _load(tx), tx.now_ms()
        _expire(calls, now)
        if wait := _provider_wait(calls, wish, settings, now, alive):
            return wait
        for cap in caps(settings.budget, wish, now):
            used = amount(_spent(tx, cap.sum_key), cap)
            if used + cap.need > cap.limit:
                raise parked(cap, wish, used)
            if used + cap.need + _reserved(calls, cap, wish) > cap.limit:
                return 0.25
        calls.open[key] = _Held(wish, now, day(now))
        if settings.providers.get(wish.provider):
            calls.starts.setdefault(wish.provider, []).append(now)
        _save(tx, calls)
    return 0.0


def settle(tx: Tx, keys: Iterable[str], event: PaidEvent, job_id: str, *, job_ended: bool = False) -> None:
    """Replace reservations by what a call really used. A job that ended meanwhile gets no sum of its own again."""
    _release(tx, keys)
    for key in sum_keys(event, job_id, tx.now_ms()):
        tx.put_doc(SPENT, key, msgspec.json.encode(added(_spent(tx, key), event)))
    if job_ended:
        forget_job(tx, job_id)


def expire(store: Store) -> int:
    """Forget reservations of calls that must be over: their processes died. Returns how many."""
    if all(held.until_ms > store.now_ms() for held in reservations(store)):
        return 0
    with store.write() as tx:
        calls = _load(tx)
        before = len(calls.open)
        _expire(calls, tx.now_ms())
        _save(tx, calls)
        return before - len(calls.open)


def reservations(store: Store) -> list[Reservation]:
    """What is reserved now, also what nobody has expired yet."""
    open_now = _load(store).open
    return [Reservation(key, held.wish.owner, held.at_ms + held.wish.hold_ms) for key, held in open_now.items()]


def drop(store: Store, keys: Iterable[str]) -> None:
    """Give reservations back: the calls failed and cost nothing."""
    with store.write() as tx:
        _release(tx, keys)


def spent(store: Store, *, job_id: str | None = None) -> Spent:
    """What this UTC day, or a job that is not finished, has used."""
    return _spent(store, f"job/{job_id}" if job_id else day(store.now_ms()))


def used_by(event: PaidEvent) -> Spent | None:
    """What an event takes from the caps; None: it cost nothing."""
    if isinstance(event, BillPresumed):
        cost, tokens = event.usd, event.tokens
    else:
        cost, tokens = event.cost_usd, event.tokens_in + event.tokens_out
    if not tokens:
        return None
    return Spent(tokens=tokens) if cost is None else Spent(usd=cost)


def forget_job(tx: Tx, job_id: str) -> None:
    """A finished job needs no sum of its own."""
    tx.put_doc(SPENT, f"job/{job_id}", None)


def sum_keys(event: PaidEvent, job_id: str, at_ms: int) -> tuple[str, ...]:
    """The sums that an event counts for: its job's, its day's, and its role's of the day; none when it cost nothing."""
    today = day(at_ms)
    return (f"job/{job_id}", today, f"{today}/{event.role}") if used_by(event) else ()


def added(old: Spent, event: PaidEvent) -> Spent:
    """The sum with an event in it."""
    used = used_by(event)
    return old.plus(used) if used else old


def _note_caps(tx: Tx, budget: Budget) -> None:
    """Caps may change at any time: the log says which ones held, or nobody could check later that they were kept."""
    caps = CapsChanged(
        per_job_usd=_finite(budget.per_job_usd),
        per_day_usd=_finite(budget.per_day_usd),
        per_role_usd={role: _finite(cap) for role, cap in sorted(budget.per_role_usd.items())},
        per_job_unpriced_tokens=_finite(budget.per_job_unpriced_tokens),
        per_day_unpriced_tokens=_finite(budget.per_day_unpriced_tokens),
    )
    if tx.doc(_CAPS, "now") != (said := encode(caps)):
        tx.put_doc(_CAPS, "now", said)
        tx.append(CAPS_STREAM, [caps])


def _finite(cap: float) -> float | None:
    return cap if math.isfinite(cap) else None


def _reserved(calls: _Calls, cap: Cap, wish: Wish) -> float:
    """What others have reserved under the same cap. Yesterday's open calls will be booked today: they count."""
    return math.fsum(counts_against(cap, wish, held.wish) for held in calls.open.values())


def _provider_wait(calls: _Calls, wish: Wish, settings: Settings, now: int, alive: Alive) -> float:
    limits = settings.providers.get(wish.provider)
    if limits is None:
        return 0.0
    if limits.max_concurrency:
        busy = [held for held in calls.open.values() if held.wish.provider == wish.provider]
        if sum(alive(held.wish.owner) is not False for held in busy) >= limits.max_concurrency:
            return 0.05
    if limits.requests_per_minute:
        recent = calls.starts.get(wish.provider, [])
        if len(recent) >= limits.requests_per_minute:
            return max(0.05, (recent[-limits.requests_per_minute] + _MINUTE_MS - now) / 1000)
    return 0.0


def _expire(calls: _Calls, now: int) -> None:
    calls.open = {key: held for key, held in calls.open.items() if held.at_ms + held.wish.hold_ms > now}
    calls.starts = {
        provider: recent
        for provider, starts in calls.starts.items()
        if (recent := [at for at in starts if at > now - _MINUTE_MS])
    }


def _release(tx: Tx, keys: Iterable[str]) -> None:
    calls = _load(tx)
    for key in keys:
        calls.open.pop(key, None)
    _save(tx, calls)


def _load(store: Store | Tx) -> _Calls:
    value = store.doc(_OPEN, _KEY)
    return msgspec.json.decode(value, type=_Calls) if value else _Calls()


def _save(tx: Tx, calls: _Calls) -> None:
    tx.put_doc(_OPEN, _KEY, msgspec.json.encode(calls))


def _spent(store: Store | Tx, key: str) -> Spent:
    value = store.doc(SPENT, key)
    return msgspec.json.decode(value, type=Spent) if value else Spent()
