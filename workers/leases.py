"""Keeping claims alive: one thread per worker process renews every lease this process holds, and sees which are lost.

Nothing ends that thread: without it every lease of the process would run out, and its calls be made again elsewhere.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lerim_jobs.errors import JobsError
from lerim_jobs.jobs import claims, outcomes
from lerim_jobs.jobs.claims import LEASE_MS, Claim
from lerim_jobs.log.store import Store
from workers.scope import Scope, current

__all__ = ["Leases"]

_log = logging.getLogger(__name__)
_LOOK_S = 0.5
"""How soon a worker sees that a job it works for was cancelled: one indexed read per claim."""


class Leases:
    """The claims in work. They are renewed three times a lease, so one failing renewal does no harm."""

    def __init__(self, store: Store, *, lease_ms: int = LEASE_MS, look_s: float = _LOOK_S) -> None:
        self._store, self.lease_ms, self._look_s = store, lease_ms, look_s
        self._every_s = lease_ms / 3000
        self._held: dict[tuple[str, str, int], tuple[Claim, Scope]] = {}
        self._settling: set[tuple[str, str, int]] = set()
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
            return [claim for claim, _ in self._held.values()]

    @contextmanager
    def holding(self, claim: Claim) -> Iterator[None]:
        """Renew the claim's lease while the block runs; when it is lost, end the block's model calls."""
        key, scope = _key(claim), Scope()
        with self._lock:
            self._held[key] = (claim, scope)
        token = current.set(scope)
        try:
            yield
        finally:
            current.reset(token)
            with self._lock:
                self._held.pop(key, None)
                self._settling.discard(key)

    def settling(self, claim: Claim) -> None:
        """Its outcome is being written: a lease that is gone from now on was not lost, and nothing is left to end."""
        with self._lock:
            self._settling.add(_key(claim))

    def release_all(self) -> int:
        """Hand every claim back to the log, for a worker that must stop now. Returns how many."""
        return sum(outcomes.release(self._store, claim) for claim in self.held())

    def _renew_for_ever(self) -> None:
        renew_at = time.monotonic() + self._every_s
        while not self._stop.wait(min(self._look_s, self._every_s)):
            is_due = time.monotonic() >= renew_at
            if is_due:
                renew_at = time.monotonic() + self._every_s
            with self._lock:
                held = list(self._held.values())
            try:
                lost = self._lost([claim for claim, _ in held], renew=is_due)
            except JobsError as exc:
                _log.warning("could not look after the leases: %s", exc)
                continue
            except Exception:
                _log.exception("could not look after the leases")
                continue
            for claim, scope in held:
                if claim in lost and not scope.ended and self._is_at_work(claim):
                    _log.warning("%s of %s was cancelled or taken over: it ends", claim.stage, claim.job_id)
                    scope.end()

    def _is_at_work(self, claim: Claim) -> bool:
        with self._lock:
            return _key(claim) in self._held and _key(claim) not in self._settling

    def _lost(self, held: list[Claim], *, renew: bool) -> list[Claim]:
        if renew and held:
            return claims.renew(self._store, held, lease_ms=self.lease_ms)
        return [claim for claim in held if not claims.still_holds(self._store, claim)]


def _key(claim: Claim) -> tuple[str, str, int]:
    return claim.job_id, claim.stage, claim.attempt
