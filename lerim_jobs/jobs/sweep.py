"""The sweeper: whatever the log expects and nobody works on gets its hint again.

It makes the queue disposable: a lost message, a killed worker and an emptied Redis all end here. Several may sweep at
once: each stale stage is marked as sent by one of them, and a doubled hint would only be refused by the claim.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from lerim_jobs.jobs.pausing import paused, why
from lerim_jobs.log.store import StageRow, Store

__all__ = ["GRACE_MS", "SWEEP_S", "stale_stages", "sweep"]

SWEEP_S = 2.0
GRACE_MS = 30_000
_EMPTY_GRACE_MS = 2_000
_AGAIN_MS = 500
_FARTHEST_MS = 25 * 3_600_000
"""Nothing waits longer than until tomorrow: a later time was written by a clock that ran ahead."""
_PAGE_WITH_PAUSED = 100_000


def stale_stages(
    store: Store, *, alive: Callable[[str], bool | None], queue_empty: Callable[[str], bool]
) -> list[StageRow]:
    """Stages that should be under way and, as far as can be seen, are not.

    A ready stage is stale after the grace time, or soon when its queue holds nothing at all (Redis lost its data), or when
    its time is one that nobody can have meant. Paused ones are meant to stand.
    """
    now, stopped = store.now_ms(), paused(store)
    # What is paused stays due for long: it must not fill the page and hide the rest.
    rows = store.due_stages(_PAGE_WITH_PAUSED) if stopped else store.due_stages()
    return [row for row in rows if not why(stopped, row) and _stale(row, now, alive, queue_empty)]


def sweep(
    store: Store,
    send: Callable[[StageRow], None],
    *,
    alive: Callable[[str], bool | None],
    queue_empty: Callable[[str], bool],
) -> int:
    """Send a hint for every stale stage and return how many were sent. A failing send is tried again next time."""
    stale = stale_stages(store, alive=alive, queue_empty=queue_empty)
    if not stale:
        return 0
    mine = []
    with store.write() as tx:
        for row in stale:
            if tx.stage(row.job_id, row.stage) == row:
                now = tx.now_ms()
                due_ms = now if row.due_ms > now + _FARTHEST_MS else row.due_ms
                mine.append(row)
                tx.save_stage(msgspec.structs.replace(row, sent_ms=now, due_ms=due_ms))
    for row in mine:
        send(row)
    return len(mine)


def _stale(row: StageRow, now: int, alive: Callable[[str], bool | None], queue_empty: Callable[[str], bool]) -> bool:
    if row.state == "running":
        gone = alive(row.owner or "") is False
        return (row.lease_until_ms <= now or gone) and row.sent_ms < now - _AGAIN_MS
    if max(row.due_ms, row.sent_ms) > now + _FARTHEST_MS:
        return True
    if row.due_ms > now:
        return False
    waited = now - max(row.sent_ms, row.due_ms)
    return waited > GRACE_MS or (waited > _EMPTY_GRACE_MS and queue_empty(row.queue))
