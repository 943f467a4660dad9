"""What was given up, why, and the two ways on: another chance, or the loss accepted for good.

Jobs are final once they have ended. So a dead stage of a running job is made ready again; of an ended job it is the
sessions whose turns it lost that get another chance, in a new sync that takes exactly these.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from lerim_jobs.errors import BadInput
from lerim_jobs.jobs import deaths
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
    for one in store.open_jobs() if job_id is None else [job_id]:
        if any(count.state == "dead" for count in store.count_stages(one)):
            gone = [row for row in store.stages(one) if row.state == "dead"]
            found += [_dead(store, row) for row in gone if row.outcome]
    return sorted(found, key=lambda stage: stage.at_ms)


def _dead(store: Store, row: StageRow) -> DeadStage:
    (event,) = store.read(job_stream(row.job_id), (row.outcome or 1) - 1, limit=1)
    return DeadStage(row.job_id, row.stage, event.as_(StageQuarantined).reason, event.at_ms)


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
        gone = [row for row in tx.stages(job_id) if row.state == "dead"]
        if not gone:
            raise BadInput(f"job {job_id!r} has no dead stage")
        return [_revive(tx, row) for row in gone]


def _revive(tx: Tx, row: StageRow) -> StageRow:
    """It is open again, and so is all that was skipped because of it and of nothing else that is dead."""
    again = [row.stage]
    for name in again:
        for edge in tx.after(row.job_id, name):
            other = tx.count_open(row.job_id, edge.after, 1)
            assert other is not None
            if other.state == "skipped" and edge.needed and _only(tx, other, again):
                again.append(other.stage)
            elif other.state not in ("waiting", "ready", "skipped"):
                raise BadInput(
                    f"{other.stage} of job {row.job_id!r} has gone on without {row.stage}: "
                    f"when the job has ended, `lerim jobs retry {row.job_id}`"
                )
            if other.state == "ready" or other.stage in again:
                tx.save_stage(msgspec.structs.replace(other, state="waiting", outcome=None))
    tx.append(job_stream(row.job_id), [StageRetried(row.stage, again[1:])])
    deaths.forget(tx, row)
    now = tx.now_ms()
    ready = msgspec.structs.replace(row, state="ready", strikes=0, due_ms=now, sent_ms=now, outcome=None)
    tx.save_stage(ready)
    return ready


def _only(tx: Tx, row: StageRow, again: Sequence[str]) -> bool:
    """Whether nothing else that the stage needs is lost."""
    needs = [tx.stage(row.job_id, edge.before) for edge in tx.before(row.job_id, row.stage) if edge.needed]
    return row.stage not in again and all(
        one is None or one.stage in again or one.state not in ("dead", "skipped") for one in needs
    )


def _by_stream(lost: Iterable[DeadSession]) -> dict[str, tuple[int, list[DeadTurns]]]:
    found: dict[str, tuple[int, list[DeadTurns]]] = {}
    for one in lost:
        found.setdefault(one.session.stream, (one.session.version, []))[1].append(one.turns)
    return found
