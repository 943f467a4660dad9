"""Fault points for `lerim drill`: places where a process dies or fails on demand. Inert without `LERIM_FAULTS`.

The variable names a folder; a file in it arms the point of its name. Nothing here can switch a guarantee off: a point only
does what a power cut, a full disk or a jumping clock does anyway.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass

__all__ = [
    "CLOCK",
    "DISK_FULL",
    "POINTS",
    "STOPPED",
    "STOP_BEFORE_COMMIT",
    "VARIABLE",
    "armed",
    "die",
    "skew_ms",
    "stop",
]

VARIABLE = "LERIM_FAULTS"
CLOCK = "clock"
DISK_FULL = "disk_full"
POINTS = (
    "before_commit",
    "before_checkpoint",
    "after_checkpoint",
    "after_append_before_send",
    "after_journal",
    "between_emit_and_close",
)
"""Where a process kills itself: the first that comes by takes the file away and dies."""
STOP_BEFORE_COMMIT = "stop_before_commit"
STOPPED = "stopped-"
"""Prefix of the files that processes leave which have stopped themselves; the rest of the name is the pid."""


def armed(point: str) -> bool:
    """Whether the point fails as long as its file is there."""
    folder = _folder()
    return folder is not None and (folder / point).exists()


def die(point: str) -> None:
    """Kill this process, if the point is armed."""
    folder = _folder()
    if folder is None:
        return
    with suppress(FileNotFoundError):
        (folder / point).unlink()
        os.kill(os.getpid(), signal.SIGKILL)


def stop(point: str) -> None:
    """Stop this process, if the point is armed: whoever armed it lets it go on."""
    folder = _folder()
    if folder is None:
        return
    with suppress(FileNotFoundError):
        (folder / point).rename(folder / f"{STOPPED}{os.getpid()}")
        os.kill(os.getpid(), signal.SIGSTOP)


def skew_ms() -> int:
    """How far the wall clock is wrong."""
    folder = _folder()
    if folder is None:
        return 0
    try:
        return int((folder / CLOCK).read_text("ascii"))
    except (OSError, ValueError):
        return 0


def _folder() -> Path | None:
    given = os.environ.get(VARIABLE)
    return Path(given) if given else None
