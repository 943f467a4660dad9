"""An event store that counts what is read of its read models: how much a look costs, whatever the machine does besides."""

from __future__ import annotations

from lerim_jobs.log.projection import CHECKPOINTS
from tests.memory_store import MemoryStore

__all__ = ["CountingStore"]


class CountingStore(MemoryStore):
    """`read_keys` are the documents that were read, checkpoints aside, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.read_keys: list[str] = []

    def doc(self, view: str, key: str) -> bytes | None:
        if view != CHECKPOINTS:
            self.read_keys.append(key)
        return super().doc(view, key)

    def docs(self, view: str, prefix: str = "") -> list[tuple[str, bytes]]:
        found = super().docs(view, prefix)
        self.read_keys += [key for key, _ in found]
        return found
