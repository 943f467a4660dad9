"""The journal on the event log: every model answer is stored before it is used, and replayed for free."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec
from opentelemetry import trace

from lerim_jobs import faults
from lerim_jobs.config import Settings
from lerim_jobs.errors import AlreadyAnswered, ConflictError, StoreUnavailable
from lerim_jobs.jobs import budget, caps, claims
from lerim_jobs.jobs.claims import Claim
from lerim_jobs.jobs.settlement import job_stream, journal_key, journal_view
from lerim_jobs.log.events import CAPS_STREAM, BillPresumed, ModelCalled, ModelCallFailed
from lerim_jobs.log.store import Identified, Store, Tx
from lerim_jobs.machine import identity

if TYPE_CHECKING:
    from workers.models.calls import Called, CallFailed, Presumed

__all__ = ["LogJournal"]

_PATIENCE_S = 20.0
_TRY_AGAIN_S = 0.25


class LogJournal:
    """Answers of one stage, keyed by (job, stage, request hash, occurrence): all its attempts share them. `earlier` looks for
    what another job has paid for; its answers are no calls of this one.
    """

    def __init__(
        self,
        store: Store,
        claim: Claim,
        *,
        session_id: str | None,
        project_id: str | None,
        caps_now: Callable[[], Settings],
        meta: Mapping[str, Any],
        earlier: Callable[[str], bytes | None] = lambda key: None,
    ) -> None:
        self._store, self._claim, self._caps, self._earlier = store, claim, caps_now, earlier
        self._about: dict[str, Any] = {
            "stage": claim.stage,
            "attempt": claim.attempt,
            "session_id": session_id,
            "project_id": project_id,
        }
        self._numbers = count()
        self._asked: dict[str, tuple[int, int]] = {}
        """By reservation: versions of the job's and of the budget's stream when it was let out."""
        self._meta = {**meta, "job_id": claim.job_id, "stage": claim.stage, "attempt": claim.attempt}

    def find(self, request_hash: str, occurrence: int) -> bytes | None:
        """The stored answer to exactly this request, or None."""
        key = self._key(request_hash, occurrence)
        blob_hash = self._store.doc(journal_view(self._claim.job_id), key)
        return self._store.blob(blob_hash.decode()) if blob_hash else self._earlier(key)

    def admit(self, wish: Mapping[str, Any], request_hash: str, occurrence: int) -> str | float:
        """Reserve for a call and return the reservation's key, or the seconds to wait. Raises Parked.

        A worker that lost its claim is let out no more (ConflictError), and none when the answer came meanwhile, from an
        attempt that was thought dead (AlreadyAnswered).
        """
        key = f"{self._claim.job_id}/{self._claim.stage}/{self._claim.attempt}/{next(self._numbers)}"
        asked = caps.Wish(job_id=self._claim.job_id, owner=self._claim.owner, **wish)

        def look(tx: Tx) -> None:
            if not claims.holds(tx, self._claim):
                raise ConflictError(f"{self._claim.stage} was taken over by another worker: it asks no model any more")
            if tx.doc(journal_view(self._claim.job_id), self._key(request_hash, occurrence)) is not None:
                raise AlreadyAnswered("another attempt has the answer by now")
            self._asked[key] = tx.version(job_stream(self._claim.job_id)), tx.version(CAPS_STREAM)

        return budget.admit(self._store, key, asked, self._caps(), alive=identity.alive, first=look) or key

    def give_back(self, keys: Sequence[str]) -> None:
        """Give reservations of requests that cost nothing back."""
        budget.drop(self._store, keys)

    def record(self, call: Called, answer: bytes, held: Sequence[str] = ()) -> None:
        """Store an answer that was paid for. Two attempts that both paid are both counted.

        A log that cannot be written for a moment is worth waiting for: an answer that is lost is paid again.
        """
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._record(call, answer, held)
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_TRY_AGAIN_S)

    def _record(self, call: Called, answer: bytes, held: Sequence[str]) -> None:
        fields = msgspec.to_builtins(call)
        key = self._key(call.request_hash, call.occurrence)
        span_id = trace.get_current_span().get_span_context().span_id
        meta = {**self._meta, "span_id": f"{span_id:016x}"} if span_id else self._meta
        asked, caps = self._let_out(held)
        with self._store.write() as tx:
            event = ModelCalled(
                **fields, **self._about, answer_blob=tx.put_blob(answer), asked_version=asked, caps_version=caps
            )
            view = journal_view(self._claim.job_id)
            ended = not tx.has_stages(self._claim.job_id)
            first = tx.doc(view, key) is None
            event_id = f"{self._claim.job_id}:{key}:called"
            stream = job_stream(self._claim.job_id)
            try:
                tx.append(stream, [Identified(event_id, event) if first else event], meta=meta)
            except ConflictError:
                tx.append(stream, [event], meta=meta)
            if first and not ended:
                tx.put_doc(view, key, event.answer_blob.encode())
            budget.settle(tx, held, event, self._claim.job_id, job_ended=ended)
        faults.die("after_journal")

    def failed(self, call: CallFailed, held: Sequence[str] = ()) -> None:
        """Note a call that gave no answer that could be used."""
        self._settle(
            ModelCallFailed(**msgspec.to_builtins(call), **self._about, caps_version=self._let_out(held)[1]), held
        )

    def presume(self, bill: Presumed, held: Sequence[str]) -> None:
        """Book a request that may have cost something in the place of its reservation."""
        self._settle(
            BillPresumed(**msgspec.to_builtins(bill), **self._about, caps_version=self._let_out(held)[1]), held
        )

    def _settle(self, event: ModelCallFailed | BillPresumed, held: Sequence[str]) -> None:
        with self._store.write() as tx:
            tx.append(job_stream(self._claim.job_id), [event], meta=self._meta)
            ended = not tx.has_stages(self._claim.job_id)
            budget.settle(tx, held, event, self._claim.job_id, job_ended=ended)

    def _let_out(self, held: Sequence[str]) -> tuple[int | None, int | None]:
        return max((self._asked[one] for one in held if one in self._asked), default=(None, None))

    def _key(self, request_hash: str, occurrence: int) -> str:
        return journal_key(self._claim.stage, request_hash, occurrence)
