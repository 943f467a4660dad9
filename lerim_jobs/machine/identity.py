"""Who a process is: precise enough that a recycled pid, another container or a rebooted host is never taken for it."""

from __future__ import annotations

import os
import re
import secrets
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

__all__ = ["alive", "host_name", "me", "started_at", "still_runs"]


@cache
def host_name() -> str:
    """A short name for queues: letters, digits, hyphens and dots only."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", socket.gethostname()).strip("-.").lower()
    return name or "localhost"


def me() -> str:
    """This process as an owner of leases: `host/pid/start/nonce`, new at every call."""
    return f"{_machine()}/{os.getpid()}/{started_at(os.getpid())}/{secrets.token_hex(4)}"


def alive(owner: str) -> bool | None:
    """Whether the owner's process runs; None when that cannot be told from here (another machine or pid namespace)."""
    parts = owner.split("/")
    if len(parts) != 4 or parts[0] != _machine() or not parts[1].isdigit():
        return None
    try:
        return still_runs(int(parts[1]), parts[2])
    except OSError:
        # No file can be opened any more: no reason to take a living worker's stages from it.
        return None


def still_runs(pid: int, start: str) -> bool:
    """Whether the pid is the process that started then, and not a zombie. Raises OSError as `started_at` does."""
    return start != "" and started_at(pid) == start


def started_at(pid: int) -> str:
    """When the process started, as text to compare; empty when it is gone or a zombie. Raises OSError where nobody can tell."""
    with suppress(FileNotFoundError, ProcessLookupError, IndexError):
        # Field 22 of proc(5) stat; the command in parentheses may hold anything, so split behind the last one.
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    if Path("/proc/self/stat").exists():
        return ""
    return _started_at_portably(pid)


def _started_at_portably(pid: int) -> str:
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return ""


@cache
def _machine() -> str:
    """Host name, boot and pid namespace: inside one such place a pid and its start time name one process."""
    boot, space = "", ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()[:8]
    with suppress(OSError):
        space = str(os.stat("/proc/self/ns/pid").st_ino)
    return ".".join(part for part in (host_name(), boot, space) if part)
