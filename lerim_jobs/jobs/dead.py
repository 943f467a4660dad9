"""What was given up, why, and the two ways on: another chance, or the loss accepted for good.

Jobs are final once they have ended. So a dead stage of a running job is made ready again; of an ended job it is the
sessions whose turns it lost that get another chance, in a new sync that takes exactly these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from lerim_jobs.errors import BadInput
from lerim_jobs.jobs import deaths
from lerim_jobs.jobs.line import JOBS
from lerim_jobs.jobs.request import Requested, request_in
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.log.events import JobRequested, SessionDropped, SessionRetried, StageQuarantined, StageRetried
from lerim_jobs.log.projection import fold_all
from lerim_jobs.log.store import StageRow, Store, Tx
from lerim_jobs.sessions.session import SESSIONS, DeadTurns, Session

__all__ = ["DeadSession", "DeadStage", "dead_sessions", "dead_stages", "drop", "retry", "revive"]


class DeadStage(msgspec.Struct, frozen=True):
    """A stage that was given up in a job that still runs."""

    job_id: str
    stage: str
    reason: str
    at_ms: int


class DeadSession(msgspec.Struct, frozen=True):
    """A session with turns that were given up."""

    session: Session
    turns: DeadTurns


def dead_stages(store: Store, *, job_id: str | None = None) -> list[DeadStage]:
    """Of jobs that still run, the oldest job first."""
    found = []
    for line in fold_all(store, JOBS).values():
        if line.finished_ms is None and job_id in (None, line.job_id):
            gone = {row.stage for row in store.job_stages(line.job_id) if row.state == "dead"}
            rows = store.read(job_stream(line.job_id)) if gone else []
            last = {row.event.stage: row for row in rows if isinstance(row.event, StageQuarantined)}
            found += [
                DeadStage(line.job_id, name, row.as_(StageQuarantined).reason, row.at_ms)
                for name, row in last.items()
                if name in gone
            ]
    return found


def dead_sessions(store: Store, *, job_id: str | None = None, project_id: str | None = None) -> list[DeadSession]:
    """Turns that a job or project lost and nobody decided about yet, the longest dead first."""
    found = [
        DeadSession(session, turns)
        for session in fold_all(store, SESSIONS).values()
        for turns in session.quarantined
        if job_id in (None, turns.job_id) and project_id in (None, session.project_id)
    ]
    return sorted(found, key=lambda one: (one.turns.at_ms, one.session.stream, one.turns.turn_from))


def retry(store: Store, lost: Sequence[DeadSession], job_id: str, event: JobRequested) -> Requested:
    """Give the turns back and ask for the sync that takes them, all in one transaction. Raises ConflictError."""
    with store.write() as tx:
        for stream, (version, ranges) in _by_stream(lost).items():
            tx.append(stream, [SessionRetried(one.turn_from, one.turn_to) for one in ranges], expected=version)
        return request_in(tx, job_id, event)


def drop(store: Store, lost: Sequence[DeadSession], reason: str) -> None:
    """Accept that the turns stay lost. Raises ConflictError."""
    with store.write() as tx:
        for stream, (version, ranges) in _by_stream(lost).items():
            events = [SessionDropped(one.turn_from, one.turn_to, reason) for one in ranges]
            tx.append(stream, events, expected=version)


def revive(store: Store, job_id: str) -> list[StageRow]:
    """Make the dead stages of a running job ready again and return those to send; all or none.

    Raises BadInput when there are none, or when stages that waited for them have gone on without them.
    """
    with store.write() as tx:
        rows = {row.stage: row for row in tx.stages(job_id)}
        gone = [row for row in rows.values() if row.state == "dead"]
        if not gone:
            raise BadInput(f"job {job_id!r} has no dead stage")
        return [_revive(tx, row, rows) for row in gone]


def _revive(tx: Tx, row: StageRow, rows: dict[str, StageRow]) -> StageRow:
    skipped = _skipped_for(row.stage, rows)
    again = {row.stage, *skipped}
    for other in list(rows.values()):
        waits = set(rows) if other.after == ["*"] else {*other.needs, *other.after}
        if other.stage in again or not waits & again:
            continue
        if other.state not in ("waiting", "ready", "skipped"):
            raise BadInput(
                f"{other.stage} of job {row.job_id!r} has gone on without {row.stage}: "
                f"when the job has ended, `lerim jobs retry {row.job_id}`"
            )
        if other.state == "ready":
            _save(tx, rows, other, state="waiting")
    for name in skipped:
        _save(tx, rows, rows[name], state="waiting")
    tx.append(job_stream(row.job_id), [StageRetried(row.stage, skipped)])
    deaths.forget(tx, row)
    now = tx.now_ms()
    return _save(tx, rows, row, state="ready", strikes=0, due_ms=now, sent_ms=now)


def _skipped_for(stage: str, rows: Mapping[str, StageRow]) -> list[str]:
    """Stages that were skipped because of it, directly or not, and of nothing else that is dead."""
    found = [stage]
    for name in found:
        found += [
            row.stage
            for row in rows.values()
            if row.state == "skipped" and name in row.needs and row.stage not in found and _only(row, stage, rows)
        ]
    return found[1:]


def _only(row: StageRow, stage: str, rows: Mapping[str, StageRow]) -> bool:
    return all(rows[name].state != "dead" or name == stage for name in row.needs if name in rows)


def _save(tx: Tx, rows: dict[str, StageRow], row: StageRow, **changes: Any) -> StageRow:
    rows[row.stage] = msgspec.structs.replace(row, **changes)
    tx.save_stage(rows[row.stage])
    return rows[row.stage]


def _by_stream(lost: Iterable[DeadSession]) -> dict[str, tuple[int, list[DeadTurns]]]:
    found: dict[str, tuple[int, list[DeadTurns]]] = {}
    for one in lost:
        found.setdefault(one.session.stream, (one.session.version, []))[1].append(one.turns)
    return found
