"""Keeping claims alive: one thread per worker process renews every lease this process holds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lerim_jobs.errors import JobsError
from lerim_jobs.jobs import claims
from lerim_jobs.jobs.claims import LEASE_MS, Claim
from lerim_jobs.log.store import Store

__all__ = ["Leases"]

_log = logging.getLogger(__name__)


class Leases:
    """The claims in work. They are renewed three times a lease, so one failing renewal does no harm."""

    def __init__(self, store: Store, *, lease_ms: int = LEASE_MS) -> None:
        self._store, self.lease_ms = store, lease_ms
        self._held: dict[tuple[str, str, int], Claim] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew_for_ever, name="leases", daemon=True)

    def start(self) -> None:
        """Begin renewing."""
        self._thread.start()

    def stop(self) -> None:
        """End renewing; held leases then run out by themselves."""
        self._stop.set()

    def held(self) -> list[Claim]:
        """The claims in work right now."""
        with self._lock:
            return list(self._held.values())

    @contextmanager
    def holding(self, claim: Claim) -> Iterator[None]:
        """Renew the claim's lease while the block runs."""
        key = (claim.job_id, claim.stage, claim.attempt)
        with self._lock:
            self._held[key] = claim
        try:
            yield
        finally:
            with self._lock:
                self._held.pop(key, None)

    def release_all(self) -> int:
        """Hand every claim back to the log, for a worker that must stop now. Returns how many."""
        return sum(claims.release(self._store, claim) for claim in self.held())

    def _renew_for_ever(self) -> None:
        while not self._stop.wait(self.lease_ms / 3000):
            for claim in self.held():
                try:
                    if not claims.renew(self._store, claim, lease_ms=self.lease_ms):
                        _log.warning(
                            "lost the lease on %s of %s: its result will be dropped", claim.stage, claim.job_id
                        )
                except JobsError as exc:
                    _log.warning("could not renew a lease: %s", exc)
