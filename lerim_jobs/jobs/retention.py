"""Dropping stored words that are no longer needed: answers of models and bulky outputs of stages, some days after their job.

The events stay: who answered, tokens and cost are known for ever. Only blobs go, which nothing but a replay after a crash
(answers) or a look at an old job (outputs) ever reads. Transcripts are kept: quotes are proved by them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import msgspec

from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import ModelCalled, StageCompleted
from lerim_jobs.log.scan import every, readable
from lerim_jobs.log.store import Store, Tx

__all__ = ["drop_answers", "drop_orphans", "drop_outputs"]

_VIEW = "_retention"
_SAYING = ("ModelCalled", "StageCompleted")
_A_TRANSACTION = 500
_HASH = re.compile(rb'"([0-9a-f]{64})"')


def drop_answers(store: Store, *, older_than_ms: int) -> int:
    """Drop stored answers of jobs that ended before a time (ms). Returns how many."""
    return _drop(store, "answers", _answer_of, older_than_ms)


def drop_outputs(store: Store, *, older_than_ms: int) -> int:
    """The same for stages' outputs that were too large for their event."""
    return _drop(store, "outputs", _output_of, older_than_ms)


def drop_orphans(store: Store) -> int:
    """Drop blobs that no event names. Reads the whole log; nobody else may be writing."""
    named = _named(every(store, (*_SAYING, "SessionIndexed")))
    stored: list[str] = []
    while some := store.blob_hashes(stored[-1] if stored else ""):
        stored += some
    orphans = [blob for blob in stored if blob not in named]
    with store.write() as tx:
        for blob in orphans:
            tx.drop_blob(blob)
    return len(orphans)


def _drop(store: Store, key: str, blob_of: Callable[[Recorded], str | None], older_than_ms: int) -> int:
    stored = store.doc(_VIEW, key)
    position: int = msgspec.json.decode(stored, type=int) if stored else 0
    ended = list(_ended(store, position, older_than_ms))
    if not ended:
        return 0
    dropped = 0
    in_use = _InUse(store)
    for job_id, _ in ended:
        blobs = list({blob for row in readable(store.read(job_stream(job_id))) if (blob := blob_of(row))})
        for start in range(0, len(blobs), _A_TRANSACTION):
            with store.write() as tx:
                for blob in set(blobs[start : start + _A_TRANSACTION]) - in_use.now(tx):
                    tx.drop_blob(blob)
                    dropped += 1
    with store.write() as tx:
        tx.put_doc(_VIEW, key, msgspec.json.encode(ended[-1][1]))
    return dropped


def _ended(store: Store, after: int, before_ms: int) -> Iterator[tuple[str, int]]:
    """Jobs that ended before a time, with the positions of their ends: those that nobody has looked at yet.

    An end that a wrong clock put into the future counts as soon as one behind it does.
    """
    now, undated = store.now_ms(), list[tuple[str, int]]()
    for row in every(store, ("JobFinished",), after=after):
        if before_ms <= row.at_ms <= now:
            return
        undated.append((row.stream.removeprefix("job-"), row.position))
        if row.at_ms < before_ms:
            yield from undated
            undated = []


class _InUse:
    """Blobs that jobs still at work name: equal words of two jobs are one blob."""

    def __init__(self, store: Store) -> None:
        self._position = store.position()
        self._blobs = {blob for job_id in store.open_jobs() for blob in _named(store.read(job_stream(job_id)))}

    def now(self, tx: Tx) -> set[str]:
        """In the transaction that drops, so that nobody names one meanwhile."""
        for row in every(tx, _SAYING, after=self._position):
            self._position = row.position
            self._blobs |= _named([row])
        return self._blobs


def _named(rows: Iterable[Recorded]) -> set[str]:
    """Whatever looks like a blob's name in these events, also in those that cannot be read."""
    return {found.decode() for row in rows for found in _HASH.findall(row.data)}


def _answer_of(row: Recorded) -> str | None:
    return row.event.answer_blob if isinstance(row.event, ModelCalled) else None


def _output_of(row: Recorded) -> str | None:
    return row.event.output_blob if isinstance(row.event, StageCompleted) else None
