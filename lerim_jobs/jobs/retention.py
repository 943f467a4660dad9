"""Dropping what is no longer needed: answers of models once their job is over and some days have passed.

The events stay: who answered, tokens and cost are known for ever. Only the stored words go, which nothing but a replay
after a crash ever reads.
"""

from __future__ import annotations

import msgspec

from lerim_jobs.log.events import ModelCalled
from lerim_jobs.log.store import Store

__all__ = ["drop_answers"]

_VIEW, _KEY = "_retention", "answers"
_BATCH = 500


def drop_answers(store: Store, *, older_than_ms: int) -> int:
    """Drop stored answers given before a time (ms), up to the first of a job that is not finished. Returns how many."""
    dropped = 0
    while True:
        stored = store.doc(_VIEW, _KEY)
        position: int = msgspec.json.decode(stored, type=int) if stored else 0
        rows = store.read_all(position, _BATCH, ("ModelCalled",))
        ripe = []
        for row in rows:
            if row.at_ms >= older_than_ms or store.job_stages(row.stream.removeprefix("job-")):
                break
            ripe.append(row)
        if not ripe:
            return dropped
        with store.write() as tx:
            for row in ripe:
                if isinstance(row.event, ModelCalled):
                    tx.drop_blob(row.event.answer_blob)
            tx.put_doc(_VIEW, _KEY, msgspec.json.encode(ripe[-1].position))
        dropped += len(ripe)
