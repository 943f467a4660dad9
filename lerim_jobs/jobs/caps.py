"""Caps as rules: what a call would count against, how much of it there may be, and when its sum starts anew."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from lerim_jobs.clock import iso
from lerim_jobs.config import Budget, RoleName
from lerim_jobs.errors import Parked

__all__ = ["Cap", "Spent", "Wish", "amount", "caps", "counts_against", "day", "parked"]

_DAY_MS = 86_400_000
_A_TRIFLE = 1e-6


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

    def plus(self, other: Spent) -> Spent:
        """Both together."""
        return Spent(math.fsum((self.usd, other.usd)), self.tokens + other.tokens)


class Cap(msgspec.Struct, frozen=True):
    """One cap: its setting, the sum it looks at (a key of sums), its limit, and whether its sum starts anew each day."""

    setting: str
    sum_key: str
    limit: float
    need: float
    daily: bool
    in_usd: bool


def caps(budget: Budget, wish: Wish, now: int) -> Iterator[Cap]:
    """Every cap the call counts against."""
    today, job = day(now), f"job/{wish.job_id}"
    if wish.usd is None:
        need = float(wish.tokens)
        yield Cap("per_job_unpriced_tokens", job, budget.per_job_unpriced_tokens, need, False, False)
        yield Cap("per_day_unpriced_tokens", today, budget.per_day_unpriced_tokens, need, True, False)
    # A call without a known price may still turn out to cost something: none is made once a cap is reached.
    usd = _A_TRIFLE if wish.usd is None else wish.usd
    yield Cap("per_job_usd", job, budget.per_job_usd, usd, False, True)
    yield Cap("per_day_usd", today, budget.per_day_usd, usd, True, True)
    if (role := budget.per_role_usd.get(wish.role)) is not None:
        yield Cap(f"per_role_usd.{wish.role}", f"{today}/{wish.role}", role, usd, True, True)


def counts_against(cap: Cap, wish: Wish, other: Wish) -> float:
    """What another call, not yet settled, takes of the room under the wish's cap."""
    of_job = cap.sum_key.startswith("job/")
    if of_job and other.job_id != wish.job_id:
        return 0.0
    if not of_job and "/" in cap.sum_key and other.role != wish.role:
        return 0.0
    if (other.usd is not None) != cap.in_usd:
        return 0.0
    return float(other.tokens) if other.usd is None else other.usd


def amount(used: Spent, cap: Cap) -> float:
    """Of what was used up, the part the cap is about."""
    return used.usd if cap.in_usd else float(used.tokens)


def parked(cap: Cap, wish: Wish, used: float) -> Parked:
    """The call does not fit under the cap even when nobody else calls."""
    when = "by itself after midnight UTC" if cap.daily else "by itself"
    return Parked(
        f"role {wish.role}: the next call may cost up to {_said(cap.need, cap)}, and {_said(used, cap)} of "
        f"{_said(cap.limit, cap)} are used ([budget] {cap.setting}); it goes on {when} or as soon as the cap is raised",
        waits_for=msgspec.json.encode(wish),
    )


def day(at_ms: int) -> str:
    """The UTC day of a time."""
    return str(iso(at_ms))[:10]


def _said(number: float, cap: Cap) -> str:
    return f"${number:.4f}" if cap.in_usd else f"{number:,.0f} tokens"
