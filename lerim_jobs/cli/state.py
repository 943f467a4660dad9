"""The service as commands use it: what is no result goes to stderr."""

from __future__ import annotations

from lerim_jobs.api.lerim import Lerim
from lerim_jobs.api.state import State
from lerim_jobs.api.state import open_state as opened
from lerim_jobs.cli.output import note

__all__ = ["open_lerim", "open_state"]


def open_lerim() -> Lerim:
    """The service over the state folder of this environment. Raises ConfigError, StoreUnavailable."""
    return Lerim(open_state())


def open_state() -> State:
    """What the service works with, for commands that steer and change."""
    return opened(tell=note, by="cli")
