"""What an audit looks at and what it finds."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lerim_jobs.config import Settings
from lerim_jobs.log.store import Store
from lerim_jobs.paths import Home

__all__ = ["Breach", "Place", "Zero"]


class Place(msgspec.Struct, frozen=True):
    """What is audited. Leftovers younger than `grace_s` seconds are in use as far as anybody can tell."""

    home: Home
    store: Store
    settings: Settings
    env: Mapping[str, str]
    host: str
    workers_run: bool
    """Whether somebody is there who cleans up and takes over; without, what waits for a worker is no leftover."""
    grace_s: float = 60.0


class Breach(msgspec.Struct, frozen=True):
    """One thing that should not be: which, and what is wrong with it."""

    id: str
    what: str


class Zero(msgspec.Struct, frozen=True):
    """One promise: its breaches, what it was checked against, and what to do when there are any.

    `also` are counts worth knowing that are no breach.
    """

    name: str
    breaches: list[Breach]
    checked: dict[str, int]
    advice: str
    also: dict[str, int] = {}
