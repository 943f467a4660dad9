"""Quarantine: giving a stage up, and who may go on in its lane."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from lerim_jobs.errors import ConflictError
from lerim_jobs.jobs import deaths, pausing
from lerim_jobs.jobs.settlement import LAST, end_job, job_stream, settle
from lerim_jobs.log.events import StageQuarantined
from lerim_jobs.log.store import Identified, StageRow, Tx

__all__ = ["bury", "with_lane"]


def bury(tx: Tx, row: StageRow, reason: str, about: Mapping[str, Any], *, lost: str | None = None) -> list[StageRow]:
    """Quarantine a stage; without its last one a job could never end, so a dead one fails the job right here."""
    gone = StageQuarantined(
        stage=row.stage, attempts=row.attempt, reason=f"{reason}, {lost}" if lost else reason, lost=lost
    )
    stream = job_stream(row.job_id)
    # A stage that was given another chance may be quarantined again, after more attempts.
    event_id = f"{row.job_id}:{row.stage}:quarantined:{row.attempt}"
    with suppress(ConflictError):
        tx.append(stream, [Identified(event_id, gone)], meta=about)
    if row.stage == LAST:
        deaths.forget(tx, row)
        end_job(tx, row.job_id, status="failed", result={}, error=f"{row.stage}: {reason}", meta=about)
        return []
    return with_lane(tx, settle(tx, row, "dead", tx.version(stream), meta=about), row.lane)


def with_lane(tx: Tx, freed: list[StageRow], lane: str | None) -> list[StageRow]:
    """The freed stages, and the oldest one that was refused because this lane was busy."""
    if lane is None:
        return freed
    now = tx.now_ms()
    due = (row for row in tx.lane(lane) if row.state == "ready" and row.due_ms <= now)
    waiting = [row for row in due if not pausing.holds(tx, row)]
    return freed + [row for row in waiting[:1] if row not in freed]
