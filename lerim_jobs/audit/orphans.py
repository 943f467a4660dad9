"""Orphans: what was left behind by something that died, in the log, on disk, in Redis and among the processes."""

from __future__ import annotations

from lerim_jobs.audit import leftover_files, leftover_processes, leftover_rows
from lerim_jobs.audit.finding import Breach, Place, Zero

__all__ = ["orphans"]


def orphans(place: Place) -> Zero:
    """Everything without an owner."""
    breaches: list[Breach] = []
    checked: dict[str, int] = {}
    for look in (
        leftover_rows.blobs,
        leftover_rows.documents,
        leftover_rows.leases,
        leftover_rows.reservations,
        leftover_files.temporary_files,
        leftover_files.sockets,
        leftover_processes.processes,
        leftover_processes.messages,
    ):
        name, count, found = look(place)
        checked[name] = count
        breaches += found
    advice = "`lerim down` ends processes and removes sockets; what is in the log or on disk does no harm, report it"
    return Zero("orphans", breaches, checked, advice)
