"""File locks between processes: taken with flock, gone with the process that held them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lerim_jobs.paths import make_private

__all__ = ["exclusive", "exclusive_now", "shared"]


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Wait for the lock and hold it while the block runs."""
    with _open(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def exclusive_now(path: Path) -> Iterator[bool]:
    """Hold the lock while the block runs, if nobody has it. Yields whether it is held."""
    with _open(path) as descriptor:
        yield _take(descriptor)


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """Hold the lock together with other sharers while the block runs."""
    with _open(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _open(path: Path) -> Iterator[int]:
    make_private(path.parent)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
