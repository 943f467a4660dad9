"""The file lock around write transactions: writers take turns in the order they came, and nobody waits for ever.

flock has no time limit of its own. A writer that was stopped (SIGSTOP, a suspended laptop's debugger) keeps its lock, and
every command would hang with it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lerim_jobs.errors import StoreUnavailable

__all__ = ["WriteLock"]


class WriteLock:
    """One thread's handle on the lock of a file, given back when the thread has ended and nobody else holds on to it.

    Raises OSError when the lock file cannot be made.
    """

    def __init__(self, path: Path, *, limit_s: float = 60.0) -> None:
        self._path, self._limit_s = path, limit_s
        self._open()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it while the block runs. Raises StoreUnavailable when somebody else keeps it too long."""
        self._take()
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the handle back."""
        self._given_back()

    def _open(self) -> None:
        self._fd = os.open(f"{self._path}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._given_back = weakref.finalize(self, os.close, self._fd)
        # The end of the process gives everything back, and not before threads that still write have ended.
        self._given_back.atexit = False

    def _take(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._queue_up()

    def _queue_up(self) -> None:
        """Wait in the kernel's queue, which is fair, in a thread that can be left behind."""
        fd, taken = self._fd, threading.Event()
        threading.Thread(target=_wait_for, args=(fd, taken), name="write-lock", daemon=True).start()
        try:
            if taken.wait(self._limit_s):
                return
            raise StoreUnavailable(
                f"another process has kept {str(self._path)!r} locked for {self._limit_s:g} s: is one of ours stopped? "
                "`lerim status` shows them"
            )
        except BaseException:
            left_waiting = self._given_back
            self._open()
            left_waiting.detach()
            # Whenever that thread gets the lock after all, closing its handle gives it to the next in the queue.
            threading.Thread(target=_close_once, args=(fd, taken), name="write-lock", daemon=True).start()
            raise


def _wait_for(fd: int, taken: threading.Event) -> None:
    fcntl.flock(fd, fcntl.LOCK_EX)
    taken.set()


def _close_once(fd: int, taken: threading.Event) -> None:
    taken.wait()
    os.close(fd)
