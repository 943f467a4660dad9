"""The hourly tidying: what the settings say is old enough goes, and the files get smaller."""

from __future__ import annotations

import msgspec

from lerim_jobs.care.shrink import give_back, rotate
from lerim_jobs.config import Retention
from lerim_jobs.jobs.retention import drop_answers, drop_outputs
from lerim_jobs.log.store import Store
from lerim_jobs.machine.locks import exclusive_now
from lerim_jobs.paths import Home
from lerim_jobs.tracing.local.store import SpanStore

__all__ = ["EVERY_MS", "Retained", "retain"]

EVERY_MS = 3_600_000
_DAY_MS = 86_400_000
_VIEW, _KEY = "_retention", "ran_at_ms"


class Retained(msgspec.Struct, frozen=True):
    """What one tidying did."""

    answers: int = 0
    outputs: int = 0
    spans: int = 0
    logs_rotated: int = 0
    bytes_given_back: int = 0


def retain(store: Store, home: Home, settings: Retention, *, every_ms: int = EVERY_MS) -> Retained | None:
    """Tidy up, unless this was done within `every_ms` or another process is at it: then None. Raises StoreUnavailable."""
    with exclusive_now(home.run / "retention.lock") as mine:
        now = store.now_ms()
        if not mine or now - ran_at_ms(store) < every_ms:
            return None
        spans = SpanStore(home.traces)
        done = Retained(
            answers=drop_answers(store, older_than_ms=_before(now, settings.answers_days)),
            outputs=drop_outputs(store, older_than_ms=_before(now, settings.outputs_days)),
            spans=spans.prune(_before(now, settings.spans_days) * 1_000_000),
            logs_rotated=rotate(home.logs, max_bytes=int(settings.logs_mb * 1_000_000)),
            bytes_given_back=give_back(home.log) + give_back(home.traces),
        )
        spans.close()
        with store.write() as tx:
            tx.put_doc(_VIEW, _KEY, msgspec.json.encode(now))
    return done


def ran_at_ms(store: Store) -> int:
    """When it was done last; 0: never."""
    stored = store.doc(_VIEW, _KEY)
    return msgspec.json.decode(stored, type=int) if stored else 0


def _before(now_ms: int, days: float) -> int:
    """`inf` days keep everything."""
    return max(0, now_ms - int(min(days, 1e6) * _DAY_MS))
