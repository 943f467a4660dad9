"""Closing a trace: one process emits a finished job's reserved spans; another does it again only if that one died."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from lerim_jobs import faults
from lerim_jobs.errors import CorruptLog
from lerim_jobs.jobs.settlement import UNCLOSED, job_stream
from lerim_jobs.log.codec import Recorded, encode
from lerim_jobs.log.events import StageCompleted, TraceClosed
from lerim_jobs.log.scan import readable
from lerim_jobs.log.store import Identified, Store, Tx

__all__ = ["close_trace", "delay_closing", "delivered", "traced_events", "unclosed_jobs", "undelivered_jobs"]

_TTL_MS = 30_000
_ON_THE_WAY = "_trace_on_the_way"
"""Read model: closed traces a receiver has not confirmed, with who emitted them."""


class _Lease(msgspec.Struct, frozen=True):
    owner: str = ""
    until_ms: int = 0


def unclosed_jobs(store: Store) -> list[str]:
    """Finished jobs whose trace waits to be closed."""
    return [job_id for job_id, _ in store.docs(UNCLOSED)]


def traced_events(store: Store, job_id: str) -> list[Recorded]:
    """The job's stream with outputs that were kept as blobs put in place: they hold the decisions a trace shows."""
    return [_with_output(store, row) for row in readable(store.read(job_stream(job_id)))]


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
    remote: bool = False,
    at_once: bool = False,
) -> bool:
    """Let `emit` send the job's spans and record that it was done. False: somebody else does it or did it.

    `emit` gets the whole job stream and returns how many spans it sent. A process killed before it recorded that, or,
    with `remote`, before a receiver had the spans, leaves the trace to be emitted once more with the same ids. The
    telemetry of this machine then leaves out what a receiver confirmed; only a kill between a receiver's answer and the
    note of it repeats spans there. `at_once`: wait for nobody who may still record spans of the job.
    """
    if not _take(store, job_id, owner, alive, at_once=at_once):
        return False
    spans = emit(traced_events(store, job_id))
    faults.die("between_emit_and_close")
    with store.write() as tx:
        stored = tx.doc(UNCLOSED, job_id)
        if stored is None or msgspec.json.decode(stored, type=_Lease).owner != owner:
            return False
        tx.append(job_stream(job_id), [Identified(f"{job_id}:trace-closed", TraceClosed(spans=spans))])
        tx.put_doc(UNCLOSED, job_id, None)
        if remote:
            tx.put_doc(_ON_THE_WAY, job_id, owner.encode())
    return True


def delivered(store: Store, job_ids: Iterable[str]) -> None:
    """Forget that these traces were on the way."""
    with store.write() as tx:
        for job_id in job_ids:
            tx.put_doc(_ON_THE_WAY, job_id, None)


def undelivered_jobs(store: Store, *, alive: Callable[[str], bool | None]) -> list[str]:
    """Closed jobs whose emitter died with the spans still in its hands. Each is given out once, to be emitted again."""
    stranded = [(job_id, owner) for job_id, owner in store.docs(_ON_THE_WAY) if alive(owner.decode()) is False]
    mine = []
    for job_id, owner in stranded:
        with store.write() as tx:
            if tx.doc(_ON_THE_WAY, job_id) == owner:
                tx.put_doc(_ON_THE_WAY, job_id, None)
                mine.append(job_id)
    return mine


def _with_output(store: Store, row: Recorded) -> Recorded:
    event = row.event if row.type == StageCompleted.__name__ else None
    if not isinstance(event, StageCompleted) or event.output_blob is None:
        return row
    try:
        output = msgspec.json.decode(store.blob(event.output_blob), type=dict[str, Any])
    except (CorruptLog, msgspec.DecodeError):
        return row  # the trace is whole without the decisions
    return msgspec.structs.replace(row, data=encode(msgspec.structs.replace(event, output=output, output_blob=None)))


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
