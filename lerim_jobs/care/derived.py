"""Every document that the store keeps beside the events: what it is made from, or what it is good for.

Whoever adds a view names it here; a test compares this with what a store has after everything has happened to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lerim_jobs.jobs import recount
from lerim_jobs.jobs.line import JOBS
from lerim_jobs.log.projection import View
from lerim_jobs.log.store import Store
from lerim_jobs.memory.files.states import FILES
from lerim_jobs.memory.stored import MEMORIES
from lerim_jobs.projects import PROJECTS
from lerim_jobs.sessions.session import SESSIONS

__all__ = ["COUNTED", "NOTES", "VIEWS"]

VIEWS: tuple[View[Any], ...] = (JOBS, SESSIONS, MEMORIES, FILES, PROJECTS)
"""Read models that catch up when they are read."""

COUNTED: dict[str, tuple[str, Callable[[Store], bool]]] = {
    "_sums:": ("claim rows", recount.claim_rows),
    "_spent": ("sums of money", recount.sums),
    "_paused": ("pauses", recount.pauses),
    "_open_jobs": ("newest jobs", recount.newest_jobs),
    "_unclosed": ("traces to close", recount.open_traces),
    "_journal:": ("answers to replay", recount.journals),
}
"""Kept up to date by the transactions of their events, by name or its beginning: what to call them, and their recount."""

NOTES: dict[str, str] = {
    "_checkpoints": "how far each view has read; without, it reads from the start",
    "_caps": "the caps that the log named last; without, they are named once more",
    "_reserved": "calls that are under way; without, others may go out beside them until they end",
    "_parked": "what a parked stage waits for; without, it stands until a rebuild lets it find out again",
    "_deaths": "how often in a row a stage died; without, it is counted from none",
    "_suspects": "which suspect a process runs; without, two may meet in one",
    "_exits": "how processes ended, for an hour; without, nobody knows why a stage was lost",
    "_trace_on_the_way": "traces that no receiver has confirmed; without, what a killed process held is not sent again",
    "_retention": "how far and when it was tidied; without, it is looked at from the start",
    "marks-": "how files looked when they were read; without, they are read again",
}
"""What no event tells, by name or its beginning, and what it costs to lose it: never a result."""
