"""Making commits durable, many at once: one flush of the write-ahead log carries every commit before it to the disk.

SQLite would flush inside each commit, with every other writer waiting behind it. Committing first and flushing outside the
lock is as safe: the write-ahead log is one sequence, so what a flush has carried was committed in that order, and a crash
forgets commits from the end only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

__all__ = ["WalFlush", "to_disk"]

to_disk: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)
"""Returns when what was written to a descriptor is on the disk."""


class WalFlush:
    """Of one log file and process; `sync` is how a descriptor is made durable."""

    def __init__(self, path: Path, *, sync: Callable[[int], None] = to_disk) -> None:
        self._wal, self._sync = f"{path}-wal", sync
        self.asked = self._flushed = 0
        """`asked`: commits that have asked so far."""
        self._numbers, self._flushing = threading.Lock(), threading.Lock()

    def wait(self) -> None:
        """Return when everything this thread has committed is on the disk. Raises OSError."""
        with self._numbers:
            self.asked += 1
            mine = self.asked
        with self._flushing:
            if self._flushed >= mine:
                return  # a flush that began after our commit has just ended
            with self._numbers:
                covered = self.asked
            self._flush()
            self._flushed = covered

    def _flush(self) -> None:
        # SQLite keeps its locks on the database and its index, never on this file: closing it here drops none.
        with suppress(FileNotFoundError):  # a checkpoint has carried all of it into the database and removed it
            descriptor = os.open(self._wal, os.O_RDONLY | os.O_CLOEXEC)
            try:
                self._sync(descriptor)
            finally:
                os.close(descriptor)
