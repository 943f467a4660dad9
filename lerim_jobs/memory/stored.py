"""Memories as they are now: all of them, some by their ids, ids by their beginning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import msgspec

from lerim_jobs.log.events import MemoryEvent
from lerim_jobs.log.projection import View, catch_up, fold_all
from lerim_jobs.log.store import Store
from lerim_jobs.memory.memory import Memory, apply

__all__ = ["MEMORIES", "all_memories", "find_ids", "load_memories", "memory_stream"]


def memory_stream(memory_id: str) -> str:
    """The stream of a memory."""
    return f"memory-{memory_id}"


def all_memories(store: Store, *, project_id: str | None = None) -> dict[str, Memory]:
    """Every memory by id, archived and merged ones included; `project_id` narrows the result, not what is read."""
    memories = fold_all(store, MEMORIES)
    return {key: memory for key, memory in memories.items() if project_id in (None, memory.project_id)}


def load_memories(store: Store, memory_ids: Iterable[str]) -> list[Memory]:
    """These memories in this order, and no others are read; an unknown id is left out."""
    catch_up(store, MEMORIES)
    decoder = msgspec.json.Decoder(Memory)
    found = (store.doc(MEMORIES.name, memory_id) for memory_id in memory_ids)
    return [decoder.decode(value) for value in found if value is not None]


def find_ids(store: Store, beginning: str) -> list[str]:
    """The id itself when there is one, else every id that begins so; no other memories are read."""
    catch_up(store, MEMORIES)
    if not beginning or store.doc(MEMORIES.name, beginning) is not None:
        return [beginning] if beginning else []
    return [key for key, _ in store.docs(MEMORIES.name, beginning)]


MEMORIES: View[Memory] = View(
    name="memories",
    version=7,
    shape=Memory,
    types=tuple(kind.__name__ for kind in get_args(MemoryEvent)),
    key=lambda row: row.stream.removeprefix("memory-"),
    apply=apply,
)
