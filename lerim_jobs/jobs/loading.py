"""What one stage needs to know of its job, by indexed reads: nobody folds a stream to run a stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from lerim_jobs.errors import BadInput, CorruptLog
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.kinds.kind import family
from lerim_jobs.log.events import JobRequested, StageCompleted, StageRequested
from lerim_jobs.log.store import StageRow, Store

__all__ = ["Beginning", "beginning", "output_at", "outputs_before", "outputs_of"]


class Beginning(NamedTuple):
    """How a job was asked for, and the stage its plan begins with. Never changes."""

    request: JobRequested
    first_stage: str


def beginning(store: Store, job_id: str) -> Beginning:
    """The first two events of the job's stream. Raises BadInput."""
    events = [row.event for row in store.read(job_stream(job_id), limit=2)]
    if events and isinstance(request := events[0], JobRequested):
        planned = events[1] if len(events) > 1 else None
        return Beginning(request, planned.stage if isinstance(planned, StageRequested) else "")
    raise BadInput(f"there is no job {job_id!r}: `lerim jobs list` shows them")


def outputs_before(store: Store, job_id: str, stage: str, families: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Outputs of the stages of some families that this one needed, by stage name, in plan order."""
    wanted = set(families)
    names = [edge.before for edge in store.before(job_id, stage) if edge.needed and family(edge.before) in wanted]
    rows = [row for name in names if (row := store.stage(job_id, name))]
    return dict(outputs_of(store, sorted(rows, key=lambda row: _plan_order(row.stage))))


def outputs_of(store: Store, rows: Iterable[StageRow]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Stage name and output of those that are done."""
    for row in rows:
        if row.state == "done" and row.outcome is not None:
            yield row.stage, output_at(store, row.job_id, row.outcome)


def output_at(store: Store, job_id: str, version: int) -> dict[str, Any]:
    """The output that the event of this version of the job's stream completed a stage with. Raises CorruptLog."""
    for row in store.read(job_stream(job_id), version - 1, limit=1):
        if isinstance(event := row.event, StageCompleted):
            if event.output_blob is None:
                return event.output
            return msgspec.json.decode(store.blob(event.output_blob), type=dict[str, Any])
    raise CorruptLog(f"event {version} of job {job_id!r} completes no stage: `lerim rebuild` makes its claim rows anew")


def _plan_order(stage: str) -> tuple[str, int]:
    head, _, number = stage.rpartition(":")
    return (head, int(number)) if number.isascii() and number.isdigit() else (stage, -1)
