"""Undo: a memory, or everything one job changed, is again what it was, by further events. Nothing is taken out of the log.

A merge is one change of several memories: undoing the survivor's half brings the absorbed ones back with it; undoing what
superseded a memory brings that one back. What somebody
changed after a job is never overwritten: it is a conflict, listed and left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from lerim_jobs.errors import BadInput, ConflictError
from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.kinds import found_by_publishing
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import MemoryReverted
from lerim_jobs.log.scan import scan
from lerim_jobs.log.store import Store
from lerim_jobs.memory.memory import Memory, content_hash, fold
from lerim_jobs.memory.stored import MEMORIES, memory_stream

__all__ = ["Undo", "UndoPlan", "of_job", "of_memory", "undo"]

_TRIES = 5

Outcome = Literal["undone", "conflict", "unchanged"]


class Undo(msgspec.Struct, frozen=True):
    """What becomes of one memory: back to `to_version` (0: before it was there), or left alone and why."""

    memory_id: str
    project_id: str
    title: str
    version: int
    to_version: int
    outcome: Outcome
    reason: str = ""


class UndoPlan(msgspec.Struct, frozen=True):
    """What is undone, and the events that do it, with the versions they were decided on."""

    lines: list[Undo]
    effects: list[Effect]


def of_memory(store: Store, memory_id: str, *, to_version: int | None = None) -> UndoPlan:
    """Back to a version, by default the one before the newest. Raises BadInput."""
    rows = store.read(memory_stream(memory_id))
    memory = fold(rows)
    if memory is None:
        raise BadInput(f"there is no memory {memory_id!r}: `lerim memory list --all` shows them")
    if memory.status == "redacted":
        raise BadInput(f"{memory_id} was redacted: what it said is gone and cannot come back")
    wanted = memory.version - 1 if to_version is None else to_version
    if not 0 <= wanted < memory.version:
        raise BadInput(f"{memory_id} is at version {memory.version}; it can go back to 0 to {memory.version - 1}")
    changes = {change for row in rows[wanted:] if (change := _change_of(row))}
    plans = [_back(rows, wanted), *(_back(other, len(other) - 1) for other in _absorbed(store, memory, changes))]
    if wanted == 0:
        plans += _replaced(store, {memory_id})
    return UndoPlan([line for line, _ in plans], [effect for _, effect in plans])


def of_job(store: Store, job_id: str) -> UndoPlan:
    """Every memory the job changed back to what it was before; also of an undo, by the id that it was given."""
    lines: list[Undo] = []
    effects: list[Effect] = []
    for memory_id in dict.fromkeys(row.stream.removeprefix("memory-") for row in _rows_of(store, job_id)):
        rows = store.read(memory_stream(memory_id))
        memory = fold(rows)
        if memory is None:
            continue
        mine = [row.version for row in rows if _is_of(row, job_id)]
        before, after = mine[0] - 1, mine[-1]
        if kept := _kept(rows, memory, before, after, strangers=after - before > len(mine)):
            lines.append(_line(memory, before, kept[0], kept[1]))
            continue
        line, effect = _back(rows, before, job_id=job_id)
        lines.append(line)
        effects.append(effect)
    gone = {one.memory_id for one in lines if one.to_version == 0 and one.outcome == "undone"}
    known = {one.memory_id for one in lines}
    for line, effect in _replaced(store, gone):
        if line.memory_id not in known:
            lines.append(line)
            effects.append(effect)
    return UndoPlan(lines, effects)


def undo(store: Store, plan: Callable[[], UndoPlan], *, meta: Mapping[str, Any]) -> UndoPlan:
    """Plan, and append all of it or nothing; what moved meanwhile is planned again. Raises BadInput, ConflictError."""
    for _ in range(_TRIES):
        made = plan()
        try:
            with store.write() as tx:
                for effect in made.effects:
                    tx.append(effect.stream, effect.events, expected=effect.expected, meta=meta)
        except ConflictError:
            continue
        return made
    raise ConflictError("these memories keep changing: try again in a moment")


# --- planning --------------------------------------------------------------------------------------
def _back(rows: Sequence[Recorded], to_version: int, *, job_id: str | None = None) -> tuple[Undo, Effect]:
    now, then = fold(list(rows)), fold(list(rows[:to_version]))
    assert now is not None
    target = then or msgspec.structs.replace(now, status="undone", merged_into=None)
    reason = f"job {job_id} was undone" if job_id else f"back to version {to_version}" if then else "undone"
    event = MemoryReverted(
        memory_id=now.memory_id,
        to_version=to_version,
        status=target.status,
        kind=target.kind,
        title=target.title,
        body=target.body,
        confidence=target.confidence,
        tags=target.tags,
        quotes=target.quotes,
        merged_into=target.merged_into,
        superseded_by=target.superseded_by,
        session_id=target.session_id,
        agent=target.agent,
        model=target.model,
        by_hand=target.by_hand,
        job_id=job_id,
        reason=reason,
    )
    line = _line(now, to_version, "undone", _what_it_is(target))
    return line, Effect(memory_stream(now.memory_id), [event], now.version)


def _line(memory: Memory, to_version: int, outcome: Outcome, reason: str) -> Undo:
    return Undo(memory.memory_id, memory.project_id, memory.title, memory.version, to_version, outcome, reason)


def _what_it_is(memory: Memory) -> str:
    return f"{memory.status} again" if memory.status != "undone" else "as if it had never been added"


def _kept(
    rows: Sequence[Recorded], memory: Memory, before: int, after: int, *, strangers: bool
) -> tuple[Outcome, str] | None:
    """Why a memory stays as it is: it is back already, it is gone, or somebody else changed it. None: it may be undone."""
    if memory.status == "redacted":
        return "unchanged", "it was redacted"
    then = fold(list(rows[:before]))
    if memory.status == "undone" if then is None else content_hash(then) == content_hash(memory):
        return "unchanged", "it is what it was before"
    at_end = fold(list(rows[:after]))
    if strangers or at_end is None or content_hash(at_end) != content_hash(memory):
        return "conflict", "somebody else changed it since"
    return None


def _rows_of(store: Store, job_id: str) -> Iterator[Recorded]:
    return (row for row in scan(store, MEMORIES.types) if _is_of(row, job_id))


def _is_of(row: Recorded, job_id: str) -> bool:
    by_job = row.meta.get("job_id") == job_id and not found_by_publishing(str(row.meta.get("stage", "")))
    return by_job or row.meta.get("undo_id") == job_id


def _change_of(row: Recorded) -> tuple[str, ...] | None:
    """What tells that events of several memories are one change: the attempt, or the undo, that appended them."""
    meta = row.meta
    if undo := meta.get("undo_id"):
        return ("undo", undo)
    return (meta["job_id"], str(meta.get("stage")), str(meta.get("attempt"))) if meta.get("job_id") else None


def _absorbed(store: Store, survivor: Memory, changes: set[tuple[str, ...]]) -> Iterator[list[Recorded]]:
    """The streams of memories whose newest event is the other half of one of these changes of the survivor."""
    if not changes:
        return
    halves = scan(store, ("MemoryMerged", "MemoryReverted"))
    for stream in dict.fromkeys(row.stream for row in halves if _change_of(row) in changes):
        history = store.read(stream)
        if stream == memory_stream(survivor.memory_id) or _change_of(history[-1]) not in changes:
            continue
        around = (fold(history), fold(history[:-1]))
        if any(one and survivor.memory_id in (one.merged_into, one.superseded_by) for one in around):
            yield history


def _replaced(store: Store, gone: set[str]) -> list[tuple[Undo, Effect]]:
    """What the memories that will be gone had superseded, active again."""
    back: list[tuple[Undo, Effect]] = []
    if not gone:
        return back
    archived = (row for row in scan(store, ("MemoryArchived",)))
    for stream in dict.fromkeys(row.stream for row in archived):
        history = store.read(stream)
        memory = fold(history)
        newest = history[-1].type == "MemoryArchived"
        if newest and memory and memory.status == "archived" and memory.superseded_by in gone:
            back.append(_back(history, len(history) - 1))
    return back
