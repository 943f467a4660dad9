"""The thread that renews leases: whatever the store raises, it goes on, and says so."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.jobs import claims
from lerim_jobs.jobs.cancelling import cancel
from lerim_jobs.jobs.claims import Claim
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import JobRequested
from lerim_jobs.log.store import StageRow
from tests.memory_store import MemoryStore
from tests.waiting import until
from workers.leases import Leases


class FailingStore(MemoryStore):
    """Raises `error`, while there is one, at whatever a lease needs."""

    error: Exception | None = None
    failed = 0

    def stage(self, *about: Any, **more: Any) -> StageRow | None:
        self._maybe_fail()
        return super().stage(*about, **more)

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[MemoryStore]:
        self._maybe_fail()
        with super().write(durable=durable) as tx:
            yield tx

    def _maybe_fail(self) -> None:
        if self.error:
            self.failed += 1
            raise self.error


def claimed(store: MemoryStore) -> Claim:
    request_job(store, "a", JobRequested("ask", {}, "all", "cli", "here", "t", "s", 1))
    got = claims.claim(store, "a", "answer", "me", alive=lambda _: None, max_attempts=9)
    assert isinstance(got, Claim)
    return got


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        OSError(errno.EMFILE, "too many open files"),
        MemoryError(),
        StoreUnavailable("away"),
    ],
    ids=lambda one: type(one).__name__,
)
def test_leases_are_renewed_again_after_any_error(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    store = FailingStore()
    held, leases = claimed(store), Leases(store, lease_ms=60, look_s=0.01)
    with leases.holding(held):
        store.error = error
        leases.start()
        until(lambda: store.failed > 3, 5, what="failing", poll_s=0.005)
        store.error = None
        before = store.now_ms()
        until(lambda: lease_until_ms(store, held) > before + 40, 5, what="a renewal", poll_s=0.005)
        cancel(store, "a")
        until(lambda: scope_has_ended(leases), 5, what="the cancelled claim's end", poll_s=0.005)
    leases.stop()
    assert any(record.levelno >= logging.WARNING and "lease" in record.message for record in caplog.records)


def lease_until_ms(store: MemoryStore, held: Claim) -> int:
    row = store.stage(held.job_id, held.stage)
    return row.lease_until_ms if row else 0


def scope_has_ended(leases: Leases) -> bool:
    return all(scope.ended for _, scope in leases._held.values())
