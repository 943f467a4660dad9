"""Overspend: sums over the log that passed a cap which held, and read models of money that disagree with the log.

A call counts against the caps it was let out under, or against what they were raised to before it was answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from lerim_jobs.audit.finding import Breach, Zero
from lerim_jobs.clock import iso
from lerim_jobs.jobs import budget
from lerim_jobs.jobs.budget import SPENT, PaidEvent
from lerim_jobs.jobs.caps import Spent
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import CapsChanged, JobFinished
from lerim_jobs.log.scan import scan
from lerim_jobs.log.store import Store

__all__ = ["overspend"]

_TYPES = (*budget.PAID, "CapsChanged", "JobFinished")
_TRIFLE_USD = 1e-6


@dataclass(slots=True)
class _Till:
    """Sums by the keys of the read model, as the log has them; a job that ended has none, also for calls that came late."""

    ended: set[str] = field(default_factory=set)
    sums: dict[str, Spent] = field(default_factory=dict)
    caps: list[CapsChanged] = field(default_factory=list)
    breaches: dict[str, Breach] = field(default_factory=dict)
    calls: int = 0
    position: int = 0


def overspend(store: Store) -> Zero:
    """All calls in order; then, with the log held still for a moment, the read model against these sums."""
    till = _Till()
    _count_all(store, till)
    with store.write():
        _count_all(store, till)
        kept = {key: msgspec.json.decode(value, type=Spent) for key, value in store.docs(SPENT)}
        held, now = budget.reservations(store), store.now_ms()
    breaches = [*till.breaches.values(), *_differences(till.sums, kept)]
    advice = "stop the workers (`lerim down`) and report it; `[budget]` in config.toml has the caps"
    checked = {"paid_calls": till.calls, "sums": len(till.sums), "caps": len(till.caps)}
    return Zero("overspend", breaches, checked, advice, {"reservations": sum(one.until_ms > now for one in held)})


def _count_all(store: Store, till: _Till) -> None:
    for row in scan(store, _TYPES, after=till.position):
        till.position = row.position
        event = row.event
        if isinstance(event, CapsChanged):
            till.caps.append(event)
        elif isinstance(event, JobFinished):
            till.ended.add(job := f"job/{row.stream.removeprefix('job-')}")
            till.sums.pop(job, None)
        elif isinstance(event, PaidEvent) and (used := budget.used_by(event)):
            _count(till, row, event, used)


def _count(till: _Till, row: Recorded, call: PaidEvent, used: Spent) -> None:
    till.calls += 1
    day, job = str(iso(row.at_ms))[:10], row.stream.removeprefix("job-")
    for key in {f"job/{job}", day, f"{day}/{call.role}"} - till.ended:
        till.sums[key] = till.sums.get(key, Spent()).plus(used)
    if call.caps_version is not None:
        for setting, total, cap in _passed(till, call, job, day):
            what = f"{total:,.6g} were spent under {setting} = {cap:,.6g}"
            till.breaches.setdefault(f"{job}/{day} {setting}", Breach(f"{job} on {day}", what))


def _passed(till: _Till, call: PaidEvent, job: str, day: str) -> Iterator[tuple[str, float, float]]:
    held = till.caps[max(0, (call.caps_version or 1) - 1) :]
    of_job, of_day, of_role = (till.sums.get(key, Spent()) for key in (f"job/{job}", day, f"{day}/{call.role}"))
    checks = [
        ("per_job_usd", of_job.usd, [caps.per_job_usd for caps in held]),
        ("per_day_usd", of_day.usd, [caps.per_day_usd for caps in held]),
        (f"per_role_usd.{call.role}", of_role.usd, [caps.per_role_usd.get(call.role) for caps in held]),
        ("per_job_unpriced_tokens", of_job.tokens, [caps.per_job_unpriced_tokens for caps in held]),
        ("per_day_unpriced_tokens", of_day.tokens, [caps.per_day_unpriced_tokens for caps in held]),
    ]
    for setting, used, limits in checks:
        known = [limit for limit in limits if limit is not None]
        if known and len(known) == len(limits) and used > max(known) + _TRIFLE_USD:
            yield setting, used, max(known)


def _differences(told: dict[str, Spent], kept: dict[str, Spent]) -> Iterator[Breach]:
    for key in sorted(told.keys() | kept.keys()):
        one, other = told.get(key, Spent()), kept.get(key, Spent())
        if one.tokens != other.tokens or abs(one.usd - other.usd) > _TRIFLE_USD:
            yield Breach(key, f"the log says {_said(one)}, the sum that caps look at {_said(other)}")


def _said(spent: Spent) -> str:
    return f"${spent.usd:.6f} and {spent.tokens:,} tokens"
