"""Making commits durable, many at once: one flush of the write-ahead log carries every commit before it to the disk.

SQLite would flush inside each commit, with every other writer waiting behind it. Committing first and flushing outside the
lock is as safe: the write-ahead log is one sequence, so what a flush has carried was committed in that order, and a crash
forgets commits from the end only.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path

__all__ = ["WalFlush"]

_sync = getattr(os, "fdatasync", os.fsync)


class WalFlush:
    """Of one log file and process. `waits` and `flushes` count: their difference is what sharing saved."""

    def __init__(self, path: Path) -> None:
        self._wal = f"{path}-wal"
        self._committed = self._flushed = 0
        self._numbers, self._flushing = threading.Lock(), threading.Lock()
        self.waits = self.flushes = 0

    def wait(self) -> None:
        """Return when everything this thread has committed is on the disk. Raises OSError."""
        with self._numbers:
            self._committed += 1
            mine = self._committed
            self.waits += 1
        with self._flushing:
            if self._flushed >= mine:
                return  # a flush that began after our commit has just ended
            with self._numbers:
                covered = self._committed
            self._flush()
            self._flushed = covered

    def _flush(self) -> None:
        # SQLite keeps its locks on the database and its index, never on this file: closing it here drops none.
        with suppress(FileNotFoundError):  # a checkpoint has carried all of it into the database and removed it
            descriptor = os.open(self._wal, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _sync(descriptor)
                self.flushes += 1
            finally:
                os.close(descriptor)
