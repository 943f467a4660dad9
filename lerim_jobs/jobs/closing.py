"""Closing a trace: one process emits a finished job's reserved spans; another does it again only if that one died."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from lerim_jobs.jobs.settlement import UNCLOSED, job_stream
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import TraceClosed
from lerim_jobs.log.store import Identified, Store, Tx

__all__ = ["close_trace", "delay_closing", "unclosed_jobs"]

_TTL_MS = 30_000


class _Lease(msgspec.Struct, frozen=True):
    owner: str = ""
    until_ms: int = 0


def unclosed_jobs(store: Store) -> list[str]:
    """Finished jobs whose trace waits to be closed."""
    return [job_id for job_id, _ in store.docs(UNCLOSED)]


def delay_closing(tx: Tx, job_id: str, delay_ms: int) -> None:
    """Let nobody close the trace for so long: who still records spans of the job gets time to end them."""
    tx.put_doc(UNCLOSED, job_id, msgspec.json.encode(_Lease(until_ms=tx.now_ms() + delay_ms)))


def close_trace(
    store: Store,
    job_id: str,
    owner: str,
    emit: Callable[[list[Recorded]], int],
    *,
    alive: Callable[[str], bool | None],
    at_once: bool = False,
) -> bool:
    """Let `emit` send the job's spans and record that it was done. False: somebody else does it or did it.

    `emit` gets the whole job stream and returns how many spans it sent. A process killed between sending and recording
    leaves the trace to be emitted once more with the same ids; no other case repeats it. `at_once`: wait for nobody who
    may still record spans of the job.
    """
    if not _take(store, job_id, owner, alive, at_once=at_once):
        return False
    spans = emit(store.read(job_stream(job_id)))
    with store.write() as tx:
        stored = tx.doc(UNCLOSED, job_id)
        if stored is None or msgspec.json.decode(stored, type=_Lease).owner != owner:
            return False
        tx.append(job_stream(job_id), [Identified(f"{job_id}:trace-closed", TraceClosed(spans=spans))])
        tx.put_doc(UNCLOSED, job_id, None)
    return True


def _take(store: Store, job_id: str, owner: str, alive: Callable[[str], bool | None], *, at_once: bool) -> bool:
    with store.write() as tx:
        stored, now = tx.doc(UNCLOSED, job_id), tx.now_ms()
        if stored is None:
            return False
        lease = msgspec.json.decode(stored, type=_Lease)
        is_taken = lease.until_ms > now and alive(lease.owner) is not False
        if is_taken and not (at_once and not lease.owner):
            return False
        tx.put_doc(UNCLOSED, job_id, msgspec.json.encode(_Lease(owner, now + _TTL_MS)))
        return True
