"""The audit: all six zeros, looked at again where something was only on its way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from lerim_jobs.audit.accounting import unaccounted
from lerim_jobs.audit.finding import Breach, Place, Zero
from lerim_jobs.audit.money import overspend
from lerim_jobs.audit.orphans import orphans
from lerim_jobs.audit.paid import paid_twice
from lerim_jobs.audit.traces import split_traces
from lerim_jobs.config import Settings
from lerim_jobs.log.store import Store
from lerim_jobs.machine.identity import host_name
from lerim_jobs.machine.processes import workers_running
from lerim_jobs.memory.checks.evidence import unsupported
from lerim_jobs.paths import Home

__all__ = ["Audit", "audit", "to_json"]

_PATIENCE_S = 10.0
_LOOK_EVERY_S = 2.0


class Audit(msgspec.Struct, frozen=True):
    """The six zeros, in the order they are promised."""

    zeros: list[Zero]

    @property
    def ok(self) -> bool:
        return not any(zero.breaches for zero in self.zeros)


def audit(
    home: Home,
    store: Store,
    settings: Settings,
    env: Mapping[str, str],
    *,
    patience_s: float = _PATIENCE_S,
    grace_s: float = 60.0,
    sleep: Callable[[float], object] = time.sleep,
) -> Audit:
    """Read-only, and safe while workers run: what is wrong now and right a moment later was only in motion.

    Every breach must stand for `patience_s`, in which `sleep` is called between looks; without any the answer comes at once.
    """

    def place() -> Place:
        running = bool(workers_running(home))
        return Place(home, store, settings, env, host_name(), workers_run=running, grace_s=grace_s)

    return Audit([_settled(look, place, patience_s, sleep) for look in _LOOKS])


def to_json(found: Audit) -> dict[str, Any]:
    """The counts by name, `checked` as one object, and each breach with what is wrong."""
    return {
        **{zero.name: len(zero.breaches) for zero in found.zeros},
        "checked": {key: count for zero in found.zeros for key, count in zero.checked.items()},
        "ok": found.ok,
        "also": {key: count for zero in found.zeros for key, count in zero.also.items()},
        "breaches": {zero.name: msgspec.to_builtins(zero.breaches) for zero in found.zeros if zero.breaches},
    }


def _settled(
    look: Callable[[Place], Zero], place: Callable[[], Place], patience_s: float, sleep: Callable[[float], object]
) -> Zero:
    zero = look(place())
    standing = {breach.id for breach in zero.breaches}
    until = time.monotonic() + patience_s
    while standing and time.monotonic() < until:
        sleep(min(_LOOK_EVERY_S, max(0.0, until - time.monotonic())))
        zero = look(place())
        standing &= {breach.id for breach in zero.breaches}
    return msgspec.structs.replace(zero, breaches=[one for one in zero.breaches if one.id in standing])


def _unsupported_memories(place: Place) -> Zero:
    checked, found = unsupported(place.store)
    advice = "`lerim memory show ID` shows what it claims; `lerim memory undo ID` takes it back"
    return Zero("unsupported_memories", [Breach(*one) for one in found], {"memories": checked}, advice)


_LOOKS: tuple[Callable[[Place], Zero], ...] = (
    lambda place: paid_twice(place.store),
    unaccounted,
    split_traces,
    _unsupported_memories,
    lambda place: overspend(place.store),
    orphans,
)
