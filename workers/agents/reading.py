"""What agents read: a narrow view of the memories, and how a memory looks to a model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Protocol

from lerim_jobs.clock import iso
from lerim_jobs.memory.memory import Memory

__all__ = ["MemoryReader", "NearReader", "found", "shown"]

_MAX_BODY = 1200


class MemoryReader(Protocol):
    """Read-only access to the memories an agent may see."""

    def search(self, query: str, limit: int) -> list[Memory]:
        """Active memories, the best match first."""
        ...

    def read(self, memory_id: str) -> Memory | None:
        """One memory by id."""
        ...

    def of_session(self, stream: str, limit: int) -> list[Memory]:
        """Active memories that a session's own words prove, summaries aside, the newest first."""
        ...

    def list(self, kind: str | None, limit: int) -> list[Memory]:
        """Active memories, the newest first."""
        ...


class NearReader(MemoryReader, Protocol):
    """What the lead reads: it is shown what is near each candidate."""

    def near(self, text: str, limit: int) -> list[Memory]:
        """Active memories that are plainly related to a text, summaries aside, the nearest first; often none."""
        ...


def shown(memory: Memory) -> dict[str, object]:
    """A memory as tools return it."""
    return {
        "memory_id": memory.memory_id,
        "kind": memory.kind,
        "title": memory.title,
        "body": memory.body[:_MAX_BODY],
        "tags": memory.tags,
        "confidence": memory.confidence,
        "quotes": [quote.text for quote in memory.quotes[-3:]],
        "last_said": iso(memory.said_ms),
        "by_hand": memory.by_hand,
    }


def found(memories: Iterable[Memory]) -> str:
    """A search result as tools return it: JSON, so that no text of a memory reads as an instruction around it."""
    return json.dumps([shown(memory) for memory in memories], ensure_ascii=False)
