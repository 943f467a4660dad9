"""Dropping stored words that are no longer needed: answers of models and bulky outputs of stages, some days after their job.

The events stay: who answered, tokens and cost are known for ever. Only blobs go, which nothing but a replay after a crash
(answers) or a look at an old job (outputs) ever reads. Transcripts are kept: quotes are proved by them.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from lerim_jobs.jobs.settlement import journal_view
from lerim_jobs.log.events import ModelCalled, SessionIndexed, StageCompleted
from lerim_jobs.log.store import Store

__all__ = ["drop_answers", "drop_orphans", "drop_outputs"]

_VIEW = "_retention"
_BATCH = 500


def drop_answers(store: Store, *, older_than_ms: int) -> int:
    """Drop stored answers given before a time (ms), up to the first of a job that is not finished. Returns how many."""
    return _drop(store, "ModelCalled", _answer_of, older_than_ms)


def drop_outputs(store: Store, *, older_than_ms: int) -> int:
    """The same for stages' outputs that were too large for their event."""
    return _drop(store, "StageCompleted", _output_of, older_than_ms)


def drop_orphans(store: Store) -> int:
    """Drop blobs that no event names. Reads the whole log; nobody else may be writing."""
    named: set[str] = set()
    position = 0
    while rows := store.read_all(position, 5000, ("ModelCalled", "StageCompleted", "SessionIndexed")):
        position = rows[-1].position
        named.update(filter(None, (_blob_of(row.event) for row in rows)))
    stored: list[str] = []
    while some := store.blob_hashes(stored[-1] if stored else ""):
        stored += some
    orphans = [blob for blob in stored if blob not in named]
    with store.write() as tx:
        for blob in orphans:
            tx.drop_blob(blob)
    return len(orphans)


def _drop(store: Store, kind: str, blob_of: Callable[[object], str | None], older_than_ms: int) -> int:
    key = {"ModelCalled": "answers"}.get(kind, kind)
    dropped = 0
    while True:
        stored = store.doc(_VIEW, key)
        position: int = msgspec.json.decode(stored, type=int) if stored else 0
        ripe = []
        for row in store.read_all(position, _BATCH, (kind,)):
            if row.at_ms >= older_than_ms or store.has_stages(row.stream.removeprefix("job-")):
                break
            ripe.append(row)
        if not ripe:
            return dropped
        blobs = {blob for blob in (blob_of(row.event) for row in ripe) if blob}
        with store.write() as tx:
            for blob in blobs - _in_use(store):
                tx.drop_blob(blob)
                dropped += 1
            tx.put_doc(_VIEW, key, msgspec.json.encode(ripe[-1].position))


def _in_use(store: Store) -> set[str]:
    """Answers that jobs still at work may replay: equal words of two jobs are one blob."""
    return {value.decode() for job_id in store.open_jobs() for _, value in store.docs(journal_view(job_id))}


def _answer_of(event: object) -> str | None:
    return event.answer_blob if isinstance(event, ModelCalled) else None


def _output_of(event: object) -> str | None:
    return event.output_blob if isinstance(event, StageCompleted) else None


def _blob_of(event: object) -> str | None:
    return event.blob if isinstance(event, SessionIndexed) else _answer_of(event) or _output_of(event)
