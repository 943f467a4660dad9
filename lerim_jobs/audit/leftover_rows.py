"""Leftovers in the store: blobs, documents, leases and reservations that nobody will come back for."""

from __future__ import annotations

import re

from lerim_jobs.audit.finding import Breach, Place
from lerim_jobs.jobs import budget
from lerim_jobs.jobs.budget import SPENT
from lerim_jobs.jobs.parking import PARKED
from lerim_jobs.jobs.settlement import journal_view
from lerim_jobs.jobs.sums import view_of
from lerim_jobs.log.scan import every
from lerim_jobs.machine import identity

__all__ = ["blobs", "documents", "leases", "reservations"]

Look = tuple[str, int, list[Breach]]
_HASH = re.compile(rb'"([0-9a-f]{64})"')
_EXPIRED_GRACE_MS = 30_000


def blobs(place: Place) -> Look:
    """Listed before the events are read: a blob and its event are one transaction, so none is too new to be known."""
    stored: set[bytes] = set()
    last = ""
    while hashes := place.store.blob_hashes(last):
        stored.update(map(bytes.fromhex, hashes))
        last = hashes[-1]
    count = len(stored)
    for row in every(place.store) if stored else ():
        for found in _HASH.findall(row.data):
            stored.discard(bytes.fromhex(found.decode()))
    return "blobs", count, [Breach(f"blob {one.hex()}", "no event refers to it") for one in sorted(stored)]


def documents(place: Place) -> Look:
    """What is kept for running jobs must go with them."""
    views = place.store.doc_views()
    found = []
    prefix = journal_view("")
    for view in views:
        job_id = view.removeprefix(prefix)
        if view.startswith(prefix) and not place.store.has_stages(job_id):
            found.append(Breach(f"journal of {job_id}", "the job is over and its answers are kept for replay"))
        job_id = view.removeprefix(view_of(""))
        if view.startswith(view_of("")) and not place.store.has_stages(job_id):
            found.append(Breach(f"sums of {job_id}", "the job is over and its sums are kept"))
    for key, _ in place.store.docs(PARKED):
        job_id, _, stage = key.partition("/")
        row = place.store.stage(job_id, stage)
        if row is None or row.state not in ("parked", "ready"):
            found.append(Breach(f"parked {key}", "the stage is not parked any more"))
    for key, _ in place.store.docs(SPENT):
        if key.startswith("job/") and not place.store.has_stages(key.removeprefix("job/")):
            found.append(Breach(f"sum {key}", "the job is over"))
    return "views", len(views), found


def leases(place: Place) -> Look:
    """A stage whose worker is gone and which no other one takes over. Without workers it only waits for one."""
    now = place.store.now_ms()
    running = place.store.running_stages()
    found = []
    for row in running if place.workers_run else ():
        gone = identity.alive(row.owner or "") is False
        if gone or row.lease_until_ms < now - _EXPIRED_GRACE_MS:
            why = "its worker is gone" if gone else "its lease ran out"
            found.append(Breach(f"{row.job_id} {row.stage}", f"{why} and nobody takes attempt {row.attempt} over"))
    return "leases", len(running), found


def reservations(place: Place) -> Look:
    """Money reserved for a call that must be over."""
    now = place.store.now_ms()
    held = budget.reservations(place.store)
    late = [one for one in held if one.until_ms < now - _EXPIRED_GRACE_MS] if place.workers_run else []
    return "reservations", len(held), [Breach(f"reservation {one.key}", "its call must be over") for one in late]
