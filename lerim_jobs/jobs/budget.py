"""Admission of model calls: money and token caps, and what a provider may be asked at once, across all workers.

A call reserves an upper bound of its cost before it is made and is settled with its real cost in the transaction that
stores its answer. Spent plus reserved never passes a cap, whoever else is calling. What a dead worker had reserved counts
until the call must be over: the provider may still bill it. A call that cannot fit even when everybody else is done
parks; one that only has to wait for others waits.

The sums are read models of `ModelCalled`, kept in the same transaction because the next admission needs them exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import msgspec

from lerim_jobs.clock import iso
from lerim_jobs.config import Budget, RoleName, Settings
from lerim_jobs.errors import Parked
from lerim_jobs.log.codec import encode
from lerim_jobs.log.events import CAPS_STREAM, CapsChanged, ModelCalled, ModelCallFailed
from lerim_jobs.log.store import Store, Tx

__all__ = [
    "PARKED",
    "SPENT",
    "Reservation",
    "Spent",
    "Wish",
    "admit",
    "drop",
    "expire",
    "forget_job",
    "park",
    "recount",
    "release_job",
    "reservations",
    "settle",
    "spent",
    "woken",
]

PARKED = "_parked"
"""Read model: stages that wait for room under a cap, by `job/stage`."""

SPENT = "_spent"
"""Read model: `Spent` by day, by day and role, and by unfinished job."""

_CAPS = "_caps"
_OPEN = "_reserved"
_KEY = "calls"
_MINUTE_MS = 60_000
_DAY_MS = 86_400_000
_FAR_MS = 365 * _DAY_MS
_A_TRIFLE = 1e-6

Alive = Callable[[str], bool | None]


class Wish(msgspec.Struct, frozen=True):
    """A call about to be made. `usd` is its upper bound, None where no price is known; then `tokens` counts.

    `hold_ms` is how long the call may last at most.
    """

    job_id: str
    role: RoleName
    provider: str
    usd: float | None
    tokens: int
    owner: str
    hold_ms: int


class Spent(msgspec.Struct, frozen=True):
    """What was used up: dollars of priced calls, tokens of the others."""

    usd: float = 0.0
    tokens: int = 0


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


class _Cap(msgspec.Struct, frozen=True):
    """One cap: its setting, the sum it looks at (a `SPENT` key), its limit, and when its sum starts anew."""

    setting: str
    sum_key: str
    limit: float
    need: float
    ends_ms: int
    in_usd: bool


class _Shortage(msgspec.Struct, frozen=True):
    wish: Wish


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
        for cap in _caps(settings.budget, wish, now):
            used = _amount(_spent(tx, cap.sum_key), cap)
            if used + cap.need > cap.limit:
                raise _parked(cap, wish, used, now)
            if used + cap.need + sum(_reserved(calls, cap, wish, now)) > cap.limit:
                return 0.25
        calls.open[key] = _Held(wish, now, _day(now))
        if settings.providers.get(wish.provider):
            calls.starts.setdefault(wish.provider, []).append(now)
        _save(tx, calls)
    return 0.0


def settle(
    tx: Tx, keys: Iterable[str], event: ModelCalled | ModelCallFailed, job_id: str, *, job_ended: bool = False
) -> None:
    """Replace reservations by what a call really used. A job that ended meanwhile gets no sum of its own again."""
    _release(tx, keys)
    _count(tx, event, job_id, _day(tx.now_ms()))
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
    value = store.doc(_OPEN, _KEY)
    calls = msgspec.json.decode(value, type=_Calls) if value else _Calls()
    return [Reservation(key, held.wish.owner, held.at_ms + held.wish.hold_ms) for key, held in calls.open.items()]


def drop(store: Store, keys: Iterable[str]) -> None:
    """Give reservations back: the calls failed and cost nothing."""
    with store.write() as tx:
        _release(tx, keys)


def spent(store: Store, *, job_id: str | None = None) -> Spent:
    """What this UTC day, or a job that is not finished, has used."""
    value = store.doc(SPENT, f"job/{job_id}" if job_id else _day(store.now_ms()))
    return msgspec.json.decode(value, type=Spent) if value else Spent()


def forget_job(tx: Tx, job_id: str) -> None:
    """A finished job needs no sum of its own."""
    tx.put_doc(SPENT, f"job/{job_id}", None)


def release_job(tx: Tx, job_id: str, *, alive: Alive) -> None:
    """Give back what a cancelled job has reserved. A process that still calls does so itself, when its call has ended."""
    calls = _load(tx)
    mine = [key for key, held in calls.open.items() if held.wish.job_id == job_id]
    gone = [key for key in mine if alive(calls.open[key].wish.owner) is False]
    if gone:
        _release(tx, gone)


def recount(store: Store) -> None:
    """Throw the sums away and fold them from the log again."""
    with store.write() as tx:
        tx.clear_docs(SPENT)
        position = 0
        finished: set[str] = set()
        while rows := store.read_all(position, types=("ModelCalled", "ModelCallFailed", "JobFinished")):
            position = rows[-1].position
            for row in rows:
                job_id = row.stream.removeprefix("job-")
                if isinstance(row.event, ModelCalled | ModelCallFailed):
                    _count(tx, row.event, job_id, _day(row.at_ms))
                else:
                    finished.add(job_id)
        for job_id in finished:
            forget_job(tx, job_id)


def park(tx: Tx, job_id: str, stage: str, waits_for: bytes | None) -> None:
    """Remember what a parked stage waits for; None forgets it."""
    tx.put_doc(PARKED, f"{job_id}/{stage}", waits_for)


def woken(store: Store, settings: Settings) -> list[tuple[str, str]]:
    """Parked stages, as (job id, stage), that would fit under the caps now: a cap was raised, or its day is over."""
    found = []
    for key, value in store.docs(PARKED):
        wish = msgspec.json.decode(value, type=_Shortage).wish
        caps = _caps(settings.budget, wish, store.now_ms())
        if all(_amount(_read_spent(store, cap.sum_key), cap) + cap.need <= cap.limit for cap in caps):
            job_id, _, stage = key.partition("/")
            found.append((job_id, stage))
    return found


def _caps(budget: Budget, wish: Wish, now: int) -> Iterator[_Cap]:
    day, midnight = _day(now), (now // _DAY_MS + 1) * _DAY_MS
    if wish.usd is None:
        job, daily, need = budget.per_job_unpriced_tokens, budget.per_day_unpriced_tokens, float(wish.tokens)
        yield _Cap("per_job_unpriced_tokens", f"job/{wish.job_id}", job, need, now + _FAR_MS, False)
        yield _Cap("per_day_unpriced_tokens", day, daily, need, midnight, False)
    # A call without a known price may still turn out to cost something: none is made once a cap is reached.
    usd = _A_TRIFLE if wish.usd is None else wish.usd
    yield _Cap("per_job_usd", f"job/{wish.job_id}", budget.per_job_usd, usd, now + _FAR_MS, True)
    yield _Cap("per_day_usd", day, budget.per_day_usd, usd, midnight, True)
    if (role := budget.per_role_usd.get(wish.role)) is not None:
        yield _Cap(f"per_role_usd.{wish.role}", f"{day}/{wish.role}", role, usd, midnight, True)


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


def _reserved(calls: _Calls, cap: _Cap, wish: Wish, now: int) -> Iterator[float]:
    """What others have reserved under the same cap. Yesterday's open calls will be booked today: they count."""
    for held in calls.open.values():
        other = held.wish
        same_job = not cap.sum_key.startswith("job/") or other.job_id == wish.job_id
        same_role = cap.sum_key.count("/") == 0 or cap.sum_key.startswith("job/") or other.role == wish.role
        if same_job and same_role and (other.usd is not None) == cap.in_usd:
            yield float(other.tokens) if other.usd is None else other.usd


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


def _parked(cap: _Cap, wish: Wish, used: float, now: int) -> Parked:
    when = "by itself after midnight UTC" if cap.ends_ms - now <= _DAY_MS else "by itself"
    return Parked(
        f"role {wish.role}: the next call may cost up to {_said(cap.need, cap)}, and {_said(used, cap)} of "
        f"{_said(cap.limit, cap)} are used ([budget] {cap.setting}); it goes on {when} or as soon as the cap is raised",
        retry_in_ms=cap.ends_ms - now + 1000,
        waits_for=msgspec.json.encode(_Shortage(wish)),
    )


def _said(amount: float, cap: _Cap) -> str:
    return f"${amount:.4f}" if cap.in_usd else f"{amount:,.0f} tokens"


def _expire(calls: _Calls, now: int) -> None:
    calls.open = {key: held for key, held in calls.open.items() if held.at_ms + held.wish.hold_ms > now}
    calls.starts = {
        provider: recent
        for provider, starts in calls.starts.items()
        if (recent := [at for at in starts if at > now - _MINUTE_MS])
    }


def _count(tx: Tx, event: ModelCalled | ModelCallFailed, job_id: str, day: str) -> None:
    if not (event.tokens_in or event.tokens_out):
        return
    for key in (f"job/{job_id}", day, f"{day}/{event.role}"):
        old = _spent(tx, key)
        if event.cost_usd is None:
            new = msgspec.structs.replace(old, tokens=old.tokens + event.tokens_in + event.tokens_out)
        else:
            new = msgspec.structs.replace(old, usd=math.fsum((old.usd, event.cost_usd)))
        tx.put_doc(SPENT, key, msgspec.json.encode(new))


def _release(tx: Tx, keys: Iterable[str]) -> None:
    calls = _load(tx)
    for key in keys:
        calls.open.pop(key, None)
    _save(tx, calls)


def _load(tx: Tx) -> _Calls:
    value = tx.doc(_OPEN, _KEY)
    return msgspec.json.decode(value, type=_Calls) if value else _Calls()


def _save(tx: Tx, calls: _Calls) -> None:
    tx.put_doc(_OPEN, _KEY, msgspec.json.encode(calls))


def _spent(tx: Tx, key: str) -> Spent:
    value = tx.doc(SPENT, key)
    return msgspec.json.decode(value, type=Spent) if value else Spent()


def _read_spent(store: Store, key: str) -> Spent:
    value = store.doc(SPENT, key)
    return msgspec.json.decode(value, type=Spent) if value else Spent()


def _amount(used: Spent, cap: _Cap) -> float:
    return used.usd if cap.in_usd else float(used.tokens)


def _day(at_ms: int) -> str:
    return str(iso(at_ms))[:10]
