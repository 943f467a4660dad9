"""Which memories a clean-up looks at together: those that share rare words, so that duplicates meet, however old they are.

No model and no quadratic comparison: each memory meets only those that share one of its rarest words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import structs

from lerim_jobs.ids import digest
from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.log.events import MemoryArchived, MemoryMerged, MemoryUpdated
from lerim_jobs.memory.checks.similarity import overlap, stems
from lerim_jobs.memory.memory import Memory

__all__ = ["batch_key", "batches", "remaining", "within"]

_RARE_WORDS, _MOST_SHARING = 6, 40
_RELATED = 0.2
_LOW = 0.3
"""Memories of less confidence are looked at even when they are like no other."""


def batches(memories: Sequence[Memory], size: int) -> list[list[Memory]]:
    """Groups of at most `size`, the oldest first: all memories when they fit in one, else those with relatives or of little
    confidence, relatives together. The same memories give the same groups.
    """
    ordered = sorted(memories, key=lambda one: (one.created_ms, one.memory_id))
    if len(ordered) <= size:
        return [ordered] if len(ordered) > 1 else []
    groups = _related(ordered, size)
    alone = {one.memory_id for one in ordered} - {one.memory_id for group in groups for one in group}
    low = [one for one in ordered if one.memory_id in alone and one.confidence < _LOW]
    return _packed([*groups, *([one] for one in low)], size)


def batch_key(batch: Sequence[Memory]) -> str:
    """Changes when any memory of the batch does, or its company."""
    return digest("\n".join(f"{one.memory_id} {one.version}" for one in batch))[:16]


def remaining(memories: Sequence[Memory], effects: Sequence[Effect]) -> list[Memory]:
    """What is left of active memories when the effects of a clean-up have been appended."""
    changed = {effect.stream.removeprefix("memory-"): effect for effect in effects}
    left = (_after(one, changed.get(one.memory_id)) for one in memories)
    return [one for one in left if one is not None]


def within(batch: Sequence[Memory], judged: Sequence[Sequence[Memory]]) -> bool:
    """Whether all of it was looked at together before: what is left of such a batch needs no second look."""
    ids = {one.memory_id for one in batch}
    return any(ids <= {one.memory_id for one in earlier} for earlier in judged)


def _after(memory: Memory, effect: Effect | None) -> Memory | None:
    for event in effect.events if effect else ():
        if isinstance(event, MemoryMerged | MemoryArchived):
            return None
        changes: dict[str, Any] = {"version": memory.version + 1}
        if isinstance(event, MemoryUpdated):
            changes |= {"title": event.title, "body": event.body, "confidence": event.confidence}
        memory = structs.replace(memory, **changes)
    return memory


def _related(memories: Sequence[Memory], size: int) -> list[list[Memory]]:
    """Groups of two and more, built by joining the most alike first and never beyond `size`."""
    told = {one.memory_id: stems(f"{one.title} {one.body}") for one in memories}
    group_of = {one.memory_id: [one] for one in memories}
    for _, one, other in sorted(_pairs(told), key=lambda pair: (-pair[0], pair[1:])):
        mine, theirs = group_of[one], group_of[other]
        if mine is theirs or len(mine) + len(theirs) > size:
            continue
        mine += theirs
        group_of |= {memory.memory_id: mine for memory in theirs}
    unique = {id(group): group for group in group_of.values() if len(group) > 1}
    return sorted(unique.values(), key=lambda group: min((one.created_ms, one.memory_id) for one in group))


def _pairs(told: Mapping[str, frozenset[str]]) -> list[tuple[float, str, str]]:
    """Pairs of relatives with how alike they are."""
    spread = Counter(stem for found in told.values() for stem in found)
    sharing: dict[str, list[str]] = defaultdict(list)
    for memory_id, found in told.items():
        shared = (stem for stem in found if 1 < spread[stem] <= _MOST_SHARING)
        for stem in sorted(shared, key=lambda stem: (spread[stem], stem))[:_RARE_WORDS]:
            sharing[stem].append(memory_id)
    met = {(one, other) for ids in sharing.values() for n, one in enumerate(ids) for other in ids[n + 1 :]}
    alike = ((overlap(told[one], told[other]), one, other) for one, other in met)
    return [pair for pair in alike if pair[0] >= _RELATED]


def _packed(groups: Sequence[list[Memory]], size: int) -> list[list[Memory]]:
    """Groups put together in their order, as many as fit."""
    packed: list[list[Memory]] = []
    for group in groups:
        if packed and len(packed[-1]) + len(group) <= size:
            packed[-1] = [*packed[-1], *group]
        else:
            packed.append(list(group))
    return [batch for batch in packed if len(batch) > 1 or batch[0].confidence < _LOW]
