"""What a process holds and for how long it keeps others waiting: memory peaks, and a store that times its transactions."""

from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.sqlite_tx import SqliteTx

__all__ = ["WatchedStore", "forget_peak", "peak_mb"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class WatchedStore(SqliteStore):
    """`seconds` are the lengths of all write transactions, from having the lock to having given it back."""

    def __init__(self, path: Path) -> None:
        self.seconds: list[float] = []
        super().__init__(path)

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[SqliteTx]:
        """As the store does; nobody else writes here, so there is no wait for the lock."""
        begin = time.perf_counter()
        with super().write(durable=durable) as tx:
            yield tx
        self.seconds.append(time.perf_counter() - begin)


def forget_peak() -> float:
    """Measure anew from here on, where the system can; returns what the process holds now, in MB."""
    if _CLEAR.exists():
        _CLEAR.write_text("5")
    return peak_mb()


def peak_mb() -> float:
    """The most that this process held at any time."""
    if _STATUS.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
        assert found
        return int(found[1]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)
