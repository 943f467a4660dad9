"""A project folder and an event store in memory, for tests of what lies between them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lerim_jobs.log.events import Event, MemoryAdded, MemoryKind, ProjectAdded, Quote
from lerim_jobs.log.projection import find
from lerim_jobs.log.store import Store
from lerim_jobs.memory.files.publishing import publish_now
from lerim_jobs.memory.files.states import files_of
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.stored import all_memories, memory_stream
from lerim_jobs.paths import memory_dir
from lerim_jobs.projects import PROJECTS, Project, project_stream
from tests.memory_store import MemoryStore

__all__ = ["Shop", "problems"]


@dataclass
class Shop:
    """The project `p` below `root`; its store's clock stands at a fixed time and moves by 1 s a reading."""

    root: Path
    store: Store = field(default_factory=lambda: MemoryStore(_clock()))

    def __post_init__(self) -> None:
        self.repository.mkdir(exist_ok=True)
        self.store.append(project_stream("p"), [ProjectAdded("p", "shop", str(self.repository), "h")])

    @property
    def repository(self) -> Path:
        return self.root / "shop"

    @property
    def folder(self) -> Path:
        return memory_dir(self.repository)

    @property
    def project(self) -> Project:
        found = find(self.store, PROJECTS, "p")
        assert found is not None
        return found

    @property
    def memories(self) -> dict[str, Memory]:
        return all_memories(self.store, project_id="p")

    def add(self, key: str, *, title: str = "", body: str = "", kind: MemoryKind = "decision") -> str:
        """A memory with a quote; returns its id."""
        quote = Quote("we said so", "s1", "session-codex-1", "codex", 4, "user", 1_795_000_000_000)
        added = MemoryAdded(
            key, "p", kind, title or f"About {key}", body or f"Body of {key}.", 0.8, ["shop"], [quote], "s1", "codex"
        )
        self.store.append(memory_stream(key), [added], expected=0)
        return key

    def append(self, key: str, *events: Event) -> None:
        """More events of a memory."""
        self.store.append(memory_stream(key), events)

    def publish(self) -> dict[str, Any]:
        """What happened, only counts that are not 0 and problems."""
        return {name: value for name, value in publish_now(self.store, "p").items() if value}

    def path(self, key: str) -> Path:
        """Where the memory's file was written last."""
        return self.folder / files_of(self.store, [key])[key].path

    def edit(self, key: str, old: str, new: str) -> None:
        """Replace words in the memory's file as an editor would."""
        path = self.path(key)
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new), "utf-8")

    def settle(self) -> None:
        """As if the files had been written some time ago."""
        for number, path in enumerate(sorted(self.folder.rglob("*.md"))):
            os.utime(path, ns=(10**18 + number, 10**18 + number), follow_symlinks=False)

    def files(self) -> dict[str, bytes]:
        """All files of the memory folder."""
        return {str(one.relative_to(self.folder)): one.read_bytes() for one in self.folder.rglob("*") if one.is_file()}


def problems(output: dict[str, Any]) -> str:
    """What a publish told people, a line each."""
    return "\n".join(f"{one['path']}: {one['problem']}" for one in output.get("problems", ()))


def _clock() -> Any:
    ticks = iter(range(1_795_000_000_000, 1_796_000_000_000, 1000))
    return lambda: next(ticks)
