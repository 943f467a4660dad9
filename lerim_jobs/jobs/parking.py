"""Stages that wait for room under a cap: they have no due time, and are woken when what they wait for fits."""

from __future__ import annotations

from collections import Counter

import msgspec

from lerim_jobs.config import Settings
from lerim_jobs.jobs.budget import Room
from lerim_jobs.jobs.caps import Wish, caps
from lerim_jobs.log.store import Store, Tx

__all__ = ["PARKED", "forget", "is_parked", "note", "note_woken", "woken"]

PARKED = "_parked"
"""Read model: what parked stages wait for, by `job/stage`; also of those that were woken and are not taken yet."""


class _Waiting(msgspec.Struct, frozen=True):
    """`wish`: the call that did not fit."""

    wish: Wish
    woken: bool = False


def note(tx: Tx, job_id: str, stage: str, waits_for: bytes) -> None:
    """Remember the call a parked stage could not make."""
    waiting = _Waiting(msgspec.json.decode(waits_for, type=Wish))
    tx.put_doc(PARKED, _key(job_id, stage), msgspec.json.encode(waiting))


def note_woken(tx: Tx, job_id: str, stage: str) -> None:
    """The stage may run; until somebody takes it, its call counts against the room that others are woken for."""
    if stored := tx.doc(PARKED, _key(job_id, stage)):
        waiting = msgspec.json.decode(stored, type=_Waiting)
        tx.put_doc(PARKED, _key(job_id, stage), msgspec.json.encode(msgspec.structs.replace(waiting, woken=True)))


def forget(tx: Tx, job_id: str, stage: str) -> None:
    """The stage runs, or never will again."""
    tx.put_doc(PARKED, _key(job_id, stage), None)


def is_parked(tx: Tx, job_id: str, stage: str) -> bool:
    """Whether it is known what the stage waits for, and it was not woken."""
    stored = tx.doc(PARKED, _key(job_id, stage))
    return stored is not None and not msgspec.json.decode(stored, type=_Waiting).woken


def woken(store: Store, settings: Settings) -> list[tuple[str, str]]:
    """Parked stages, as (job id, stage), that fit under the caps now: one was raised, or its day is over.

    As many as fit together: what one would use is no room for the next, so nobody is woken only to be parked again.
    """
    stored = [(key, msgspec.json.decode(value, type=_Waiting)) for key, value in store.docs(PARKED)]
    if not stored:
        return []
    room, promised, found = Room(store), Counter[str](), []
    now = store.now_ms()
    for key, waiting in sorted(stored, key=lambda one: not one[1].woken):
        counted = list(caps(settings.budget, waiting.wish, now))
        fits = all(
            room.used(cap, waiting.wish) + promised[cap.setting + cap.sum_key] + cap.need <= cap.limit
            for cap in counted
        )
        if not (fits or waiting.woken):
            continue
        for cap in counted:
            promised[cap.setting + cap.sum_key] += cap.need  # type: ignore[assignment]
        if not waiting.woken:
            job_id, _, stage = key.partition("/")
            found.append((job_id, stage))
    return found


def _key(job_id: str, stage: str) -> str:
    return f"{job_id}/{stage}"
