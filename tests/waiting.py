"""Waiting in tests: until something holds, with a bound, showing the last value seen."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["until"]

T = TypeVar("T")


def until(check: Callable[[], T], timeout_s: float, *, what: str = "", poll_s: float = 0.05) -> T:
    """Return the first truthy value of `check`; fail with the last one after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        seen = check()
        if seen:
            return seen
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'it'} did not happen within {timeout_s} s; last seen: {seen!r}")
        time.sleep(poll_s)
