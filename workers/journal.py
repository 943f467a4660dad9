"""The journal on the event log: every model answer is stored before it is used, and replayed for free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec
from opentelemetry import trace

from lerim_jobs.config import Settings
from lerim_jobs.errors import ConflictError
from lerim_jobs.jobs import budget
from lerim_jobs.jobs.claims import Claim
from lerim_jobs.jobs.settlement import job_stream, journal_view
from lerim_jobs.log.events import ModelCalled, ModelCallFailed
from lerim_jobs.log.store import Identified, Store
from lerim_jobs.queue import identity

if TYPE_CHECKING:
    from workers.models.journal import Called, CallFailed

__all__ = ["LogJournal"]


class LogJournal:
    """Answers of one stage, keyed by (job, stage, request hash, occurrence): all its attempts share them."""

    def __init__(
        self,
        store: Store,
        claim: Claim,
        *,
        session_id: str | None,
        project_id: str | None,
        caps: Callable[[], Settings],
        meta: Mapping[str, Any],
    ) -> None:
        self._store, self._claim, self._caps = store, claim, caps
        self._about: dict[str, Any] = {
            "stage": claim.stage,
            "attempt": claim.attempt,
            "session_id": session_id,
            "project_id": project_id,
        }
        self._numbers = count()
        self._meta = {**meta, "job_id": claim.job_id, "stage": claim.stage, "attempt": claim.attempt}

    def find(self, request_hash: str, occurrence: int) -> bytes | None:
        """The stored answer to exactly this request, or None."""
        blob_hash = self._store.doc(journal_view(self._claim.job_id), self._key(request_hash, occurrence))
        return self._store.blob(blob_hash.decode()) if blob_hash else None

    def admit(self, wish: Mapping[str, Any]) -> str | float:
        """Reserve for a call and return the reservation's key, or the seconds to wait. Raises Parked."""
        key = f"{self._claim.job_id}/{self._claim.stage}/{self._claim.attempt}/{next(self._numbers)}"
        asked = budget.Wish(job_id=self._claim.job_id, owner=self._claim.owner, **wish)
        return budget.admit(self._store, key, asked, self._caps(), alive=identity.alive) or key

    def give_back(self, keys: Sequence[str]) -> None:
        """Give reservations of requests that cost nothing back."""
        budget.drop(self._store, keys)

    def record(self, call: Called, answer: bytes, held: Sequence[str] = ()) -> None:
        """Store an answer that was paid for. Two attempts that both paid are both counted."""
        fields = msgspec.to_builtins(call)
        key = self._key(call.request_hash, call.occurrence)
        span_id = trace.get_current_span().get_span_context().span_id
        meta = {**self._meta, "span_id": f"{span_id:016x}"} if span_id else self._meta
        with self._store.write() as tx:
            event = ModelCalled(**fields, **self._about, answer_blob=tx.put_blob(answer))
            view = journal_view(self._claim.job_id)
            # A cancelled job replays nothing any more; its answer is only counted.
            is_over = tx.stage(self._claim.job_id, self._claim.stage) is None
            first = not is_over and tx.doc(view, key) is None
            event_id = f"{self._claim.job_id}:{key}:called"
            stream = job_stream(self._claim.job_id)
            try:
                tx.append(stream, [Identified(event_id, event) if first else event], meta=meta)
            except ConflictError:
                tx.append(stream, [event], meta=meta)
            if first:
                tx.put_doc(view, key, event.answer_blob.encode())
            budget.settle(tx, held, event, self._claim.job_id)
            if is_over:
                budget.forget_job(tx, self._claim.job_id)

    def failed(self, call: CallFailed, held: Sequence[str] = ()) -> None:
        """Note a call that gave no answer that could be used."""
        event = ModelCallFailed(**msgspec.to_builtins(call), **self._about)
        with self._store.write() as tx:
            tx.append(job_stream(self._claim.job_id), [event], meta=self._meta)
            budget.settle(tx, held, event, self._claim.job_id)
            if tx.stage(self._claim.job_id, self._claim.stage) is None:
                budget.forget_job(tx, self._claim.job_id)

    def _key(self, request_hash: str, occurrence: int) -> str:
        return f"{self._claim.stage}/{request_hash}/{occurrence}"
