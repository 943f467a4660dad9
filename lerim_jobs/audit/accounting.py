"""Unaccounted: turns, files, stages and jobs of which nobody can say what became of them, and events nobody can read."""

from __future__ import annotations

from lerim_jobs.audit.finding import Breach, Place, Zero
from lerim_jobs.audit.jobs import account_for_jobs
from lerim_jobs.audit.turns import account_for_turns
from lerim_jobs.log.scan import unreadable

__all__ = ["unaccounted"]


def unaccounted(place: Place) -> Zero:
    """Turns seen = extracted + waiting + dead + skipped; files found = read + unchanged + skipped; stages all settled."""
    turns, jobs = account_for_turns(place), account_for_jobs(place.store)
    lost = [Breach(f"{row.stream} event {row.position}", why) for row, why in unreadable(place.store)]
    advice = (
        "`lerim sync --force --run-id SESSION` reads a session again; `lerim jobs show JOB` says where a job stands"
    )
    return Zero(
        "unaccounted",
        [*turns.breaches, *jobs.breaches, *lost],
        {**turns.checked, **jobs.checked},
        advice,
        {**turns.also, **jobs.also},
    )
