"""Answers that a job had paid for before it gave a session back, as a cancelled one does: who takes the session next need not pay
again for the same request.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from lerim_jobs.errors import CorruptLog
from lerim_jobs.jobs.settlement import job_stream, journal_key
from lerim_jobs.log.events import ModelCalled, SessionReleased
from lerim_jobs.log.store import Store

__all__ = ["GivenBack", "gave_back"]

_MOST_JOBS = 3
"""Of the jobs that gave a session back the newest are looked at, and of all such jobs as many are kept at hand."""


def gave_back(store: Store, stream: str) -> list[str]:
    """Ids of the jobs that gave a session back, the newest first."""
    rows = reversed(store.read(stream))
    return list(dict.fromkeys(row.event.job_id for row in rows if isinstance(row.event, SessionReleased)))


class GivenBack:
    """Looked up by session and request. Threads may share one: a job's answers are read once, not once for each session."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._answers: OrderedDict[str, dict[str, str]] = OrderedDict()

    def find(self, stream: str, key: str, *, job_id: str) -> bytes | None:
        """The stored answer to a request that another job than `job_id` made in the same stage, before it gave the session back.
        `key` is that of the journal.
        """
        for earlier in gave_back(self._store, stream)[:_MOST_JOBS]:
            if earlier != job_id and (blob_hash := self._of(earlier).get(key)):
                try:
                    return self._store.blob(blob_hash)
                except CorruptLog:  # answers are kept for some days only
                    continue
        return None

    def _of(self, job_id: str) -> dict[str, str]:
        with self._lock:
            if job_id not in self._answers:
                calls = [
                    row.event for row in self._store.read(job_stream(job_id)) if isinstance(row.event, ModelCalled)
                ]
                self._answers[job_id] = {
                    journal_key(one.stage, one.request_hash, one.occurrence): one.answer_blob for one in calls
                }
            self._answers.move_to_end(job_id)
            while len(self._answers) > _MOST_JOBS:
                self._answers.popitem(last=False)
            return self._answers[job_id]
