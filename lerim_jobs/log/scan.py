"""Walking through the log. An event that cannot be read is named once and passed over: the others are no worse for it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from lerim_jobs.errors import UnreadableEvent
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.store import Store, Tx

__all__ = ["every", "fault", "pass_over", "readable", "scan", "unreadable"]

_log = logging.getLogger(__name__)
_BATCH = 5000


def every(log: Store | Tx, types: Sequence[str] | None = None, *, after: int = 0) -> Iterator[Recorded]:
    """Events in order of position, a batch in memory at a time; `types` keeps only these."""
    while rows := log.read_all(after, _BATCH, types):
        yield from rows
        after = rows[-1].position


def scan(log: Store | Tx, types: Sequence[str] | None = None, *, after: int = 0) -> Iterator[Recorded]:
    """`every` event that can be read."""
    return readable(every(log, types, after=after))


def readable(rows: Iterable[Recorded]) -> Iterator[Recorded]:
    """Those whose events can be read, and those that only a newer version knows."""
    for row in rows:
        if error := fault(row):
            pass_over(error)
        else:
            yield row


def unreadable(log: Store | Tx) -> Iterator[tuple[Recorded, str]]:
    """Every event of the log that cannot be read, and why. Reads the whole log."""
    return ((row, str(error)) for row in every(log) if (error := fault(row)))


def fault(row: Recorded) -> UnreadableEvent | None:
    """Why the event cannot be read, if it cannot."""
    try:
        _ = row.event
    except UnreadableEvent as exc:
        return exc
    return None


def pass_over(error: UnreadableEvent) -> None:
    """Say once that something is left out, and go on."""
    _say(str(error))


@cache
def _say(what: str) -> None:
    _log.warning("%s. It is left out; `lerim doctor` names all of its kind", what)
