"""Unaccounted: turns, files, stages and jobs of which nobody can say what became of them."""

from __future__ import annotations

from lerim_jobs.audit.finding import Place, Zero
from lerim_jobs.audit.jobs import account_for_jobs
from lerim_jobs.audit.turns import account_for_turns

__all__ = ["unaccounted"]


def unaccounted(place: Place) -> Zero:
    """Turns seen = extracted + waiting + dead + skipped; files found = read + unchanged + skipped; stages all settled."""
    turns, jobs = account_for_turns(place), account_for_jobs(place.store)
    advice = (
        "`lerim sync --force --run-id SESSION` reads a session again; `lerim jobs show JOB` says where a job stands"
    )
    return Zero(
        "unaccounted",
        [*turns.breaches, *jobs.breaches],
        {**turns.checked, **jobs.checked},
        advice,
        {**turns.also, **jobs.also},
    )
