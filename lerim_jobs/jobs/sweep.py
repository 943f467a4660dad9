"""The sweeper: whatever the log expects and nobody works on gets its hint again.

It makes the queue disposable: a lost message, a killed worker and an emptied Redis all end here. Several may sweep at
once: each stale stage is marked as sent by one of them, and a doubled hint would only be refused by the claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

import msgspec

from lerim_jobs.jobs.pausing import paused, ready_in, why
from lerim_jobs.log.store import StageRow, Store

__all__ = ["GRACE_MS", "SWEEP_S", "stale_stages", "sweep"]

SWEEP_S = 2.0
GRACE_MS = 30_000
_EMPTY_GRACE_MS = 2_000
_AGAIN_MS = 500
_FARTHEST_MS = 25 * 3_600_000
"""Nothing waits longer than until tomorrow: a later time was written by a clock that ran ahead."""

QueueLength = Callable[[str], int]
"""How many messages wait in a queue; below 0 where Redis cannot say."""


def stale_stages(store: Store, *, alive: Callable[[str], bool | None], queue_length: QueueLength) -> Iterator[StageRow]:
    """Stages that should be under way and, as far as can be seen, are not: an expired or dead lease, a time that nobody can
    have meant, and of each queue as many ready stages as it has too few messages for.
    """
    now, stopped = store.now_ms(), paused(store)
    for row in store.running_stages():
        gone = row.lease_until_ms <= now or alive(row.owner or "") is False
        if gone and row.sent_ms < now - _AGAIN_MS and not why(stopped, row.job_id, row.queue):
            yield row
    yield from store.far_stages(now + _FARTHEST_MS)
    for queue, expected in _expected(store, stopped).items():
        yield from _missing(store, queue, expected, now, stopped, queue_length)


def sweep(
    store: Store, send: Callable[[StageRow], None], *, alive: Callable[[str], bool | None], queue_length: QueueLength
) -> int:
    """Send a hint for every stale stage and return how many were sent. A failing send is tried again next time."""
    stale = list(stale_stages(store, alive=alive, queue_length=queue_length))
    if not stale:
        return 0
    mine = []
    with store.write(durable=False) as tx:
        for row in stale:
            if tx.stage(row.job_id, row.stage) == row:
                now = tx.now_ms()
                due_ms = now if row.due_ms > now + _FARTHEST_MS else row.due_ms
                mine.append(row)
                tx.save_stage(msgspec.structs.replace(row, sent_ms=now, due_ms=due_ms))
    for row in mine:
        send(row)
    return len(mine)


def _expected(store: Store, stopped: set[str]) -> Counter[str]:
    """How many messages each queue should have: one for each stage that is ready, due and not paused."""
    counts = Counter[str]()
    for one in store.count_stages(state="ready"):
        if one.due:
            counts[one.queue] += one.stages
    for key in stopped:
        what, _, name = key.partition("/")
        for one in store.count_stages(name, "ready") if what == "job" else ():
            if one.due:
                counts[one.queue] -= one.stages
    return Counter({queue: count for queue, count in counts.items() if count > 0 and not why(stopped, "", queue)})


def _missing(
    store: Store, queue: str, expected: int, now: int, stopped: set[str], queue_length: QueueLength
) -> Iterator[StageRow]:
    """Of the stages nobody took, those whose hint was sent the longest ago, up to the queue's shortfall.

    A queue that holds nothing has lost its messages; in another one a message may be in somebody's hands for a moment.
    """
    length = queue_length(queue)
    if length < 0 or length >= expected:
        return
    grace_ms = GRACE_MS if length else _EMPTY_GRACE_MS
    unsent = ready_in(store, queue, sent_before_ms=now - grace_ms)
    waiting = (row for row in unsent if not why(stopped, row.job_id, queue))
    yield from islice(waiting, expected - length)
