"""Which memories are plainly about what a text is about: not the best matches there are, but those that share enough.

A search always finds something as long as one word matches. Nearness weighs the shared words, each by its rarity, against all
words of both texts: what share only common words are strangers, and then nothing is near. It sees words alone; a paraphrase in
other words is near only where `[search] embeddings` is on.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from lerim_jobs.log.store import Store
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.search.index import SearchIndex, search_memories
from lerim_jobs.memory.search.vocabulary import kinship
from lerim_jobs.memory.stored import load_memories

__all__ = ["NEAR", "near_memories", "nearness"]

NEAR = 0.1
"""Nearness from which two texts are plainly related. Of the pairs of 43 memories of one project, one and a half in a hundred
reach it; restatements and contradictions of one of them have .2 and more."""
_TITLE = 0.6
"""A memory is near also when this share of its title's weight is in the text: a long text is not about one thing only."""
_ALIKE, _MOST_ALIKE = 0.35, 0.25
"""Likeness by meaning that is enough: one pair in a hundred of those 43 reaches the first. A paraphrase has .25 to .4."""
_MOST_CHARS = 1500
_LOOKED_AT = 4
_BEGIN = 3


def near_memories(
    index: SearchIndex, store: Store, text: str, *, project_ids: Sequence[str] | None = None, limit: int = 4
) -> list[Memory]:
    """Active memories that are plainly related to the text, the nearest first; summaries aside. Empty where there is none."""
    text = text[:_MOST_CHARS]
    hits = {
        one.memory_id: one
        for one in search_memories(index, store, text, project_ids=project_ids, limit=_LOOKED_AT * limit)
    }
    alike = _alike(index.likeness(text, project_ids=project_ids), limit)
    more = load_memories(store, (key for key in alike if key not in hits))
    hits |= {one.memory_id: one for one in more if one.status == "active"}
    mine = index.weights(text)
    found = (
        (max(_near(index, mine, one), NEAR * alike.get(key, 0.0)), one)
        for key, one in hits.items()
        if one.kind != "summary"
    )
    near = sorted((pair for pair in found if pair[0] >= NEAR), key=lambda pair: (-pair[0], pair[1].memory_id))
    return [one for _, one in near[:limit]]


def _alike(likeness: Mapping[str, float], limit: int) -> dict[str, float]:
    """What is near by meaning, as a multiple of what is enough; the one that is nearest needs less."""
    most = heapq.nlargest(_LOOKED_AT * limit, likeness.items(), key=lambda pair: (pair[1], pair[0]))
    enough = {key: _ALIKE if place else _MOST_ALIKE for place, (key, _) in enumerate(most)}
    return {key: close / enough[key] for key, close in most if close >= enough[key]}


def nearness(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """The cosine of two texts as weights of words, 0 to 1; words that begin alike count in part."""
    return _shared(one, other) / math.sqrt(_size(one) * _size(other)) if one and other else 0.0


def _near(index: SearchIndex, mine: Mapping[str, float], memory: Memory) -> float:
    quotes = " ".join(quote.text for quote in memory.quotes[-1:])
    told = index.weights(f"{memory.title} {memory.body} {' '.join(memory.tags)} {quotes}"[:_MOST_CHARS])
    title = index.weights(memory.title)
    close = nearness(mine, told)
    titled = len(title) > 1 and _shared(mine, title) >= _TITLE * _size(title)
    return max(close, NEAR) if titled else close


def _shared(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    both = one.keys() & other.keys()
    total = sum(one[word] * other[word] for word in both)
    begun: dict[str, list[str]] = defaultdict(list)
    for word in other.keys() - both:
        begun[word[:_BEGIN]].append(word)
    for word in one.keys() - both:
        kin = ((kinship(word, near) * one[word] * other[near], near) for near in begun.get(word[:_BEGIN], ()))
        total += max(kin, default=(0.0, ""))[0]
    return total


def _size(weights: Mapping[str, float]) -> float:
    return sum(weight * weight for weight in weights.values())
