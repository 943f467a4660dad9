"""What people did to a project's memory files: the events that say so, and what is to be left alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from lerim_jobs.log.events import Event
from lerim_jobs.memory.files.folder import shown
from lerim_jobs.memory.files.survey import Survey
from lerim_jobs.memory.memory import Memory

__all__ = ["Changes", "Known", "Problem"]


class Problem(msgspec.Struct, frozen=True):
    """Something a person should look at: the path below the memory folder and what is wrong."""

    path: str
    problem: str


class Known(msgspec.Struct, frozen=True):
    """How memories are looked up: as they are, as they were at a version, and whether an id is taken anywhere."""

    memory: Callable[[str], Memory | None]
    at_version: Callable[[str, int], Memory | None]
    is_taken: Callable[[str], bool]


class Changes(msgspec.Struct):
    """Found on the files of `found`; nothing is done yet. `is_switched`: git changed files since the last look.

    events   by memory id, decided at the version in `versions`
    paths    where a person put the file of a memory
    seen     digests of bytes whose words are in the log or in `events`: these may be replaced
    gone     archived memories whose file was deleted: it is not written again
    lacking  memories whose file is not part of what git has checked out since
    held     memories whose file is an earlier one, because git has checked that out: its path and digest
    left     memories whose files stay as they are; `beside` has those with a version of ours to put beside
    alone    paths that are nobody's or cannot be read; `same` those that say nothing new, with the published digest
    """

    project_id: str
    found: Survey
    known: Known
    is_switched: bool = False
    events: dict[str, list[Event]] = {}
    versions: dict[str, int] = {}
    paths: dict[str, str] = {}
    seen: dict[str, str] = {}
    gone: set[str] = set()
    lacking: set[str] = set()
    held: dict[str, tuple[str, str]] = {}
    left: set[str] = set()
    beside: dict[str, Memory] = {}
    alone: set[str] = set()
    same: dict[str, str] = {}
    counts: Counter[str] = msgspec.field(default_factory=Counter)
    problems: list[Problem] = []

    def add(self, memory_id: str, version: int, *events: Event) -> None:
        """Events for one memory, decided at its version."""
        self.versions.setdefault(memory_id, version)
        self.events.setdefault(memory_id, []).extend(events)

    def say(self, path: str, problem: str) -> None:
        """Tell a person about it."""
        self.problems.append(Problem(shown(path), problem))

    def leave(self, path: str, problem: str, memory_id: str | None = None) -> None:
        """The file, and the memory it belongs to, stay as they are."""
        self.say(path, problem)
        self.alone.add(path)
        if memory_id:
            self.left.add(memory_id)
