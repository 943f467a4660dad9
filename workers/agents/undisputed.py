"""When no lead is needed: nothing stored is near what a session gave, so there is nothing to compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from lerim_jobs.memory.checks.similarity import Said, same_fact
from lerim_jobs.memory.proposals import Candidate, Proposal
from workers.agents.reading import NearReader

__all__ = ["undisputed"]

_REASON = "nothing stored is near it"
_MOST = 12
"""More candidates than these are looked at by the lead whatever is stored: some of so many are not worth keeping."""


def undisputed(candidates: Sequence[Candidate], memories: NearReader, *, session_stream: str) -> list[Proposal] | None:
    """Each candidate as a new memory where that is plainly what a lead would decide; None where one has to look.

    That is: no memory of the session and none near a candidate is stored, and no two candidates say the same.
    """
    if len(candidates) > _MOST or memories.of_session(session_stream, 1):
        return None
    if any(memories.near(f"{one.title} {one.body}", 1) for one in candidates):
        return None
    if any(same_fact(*(Said(each.title, each.body) for each in pair)) for pair in combinations(candidates, 2)):
        return None
    return [Proposal("add", reason=_REASON, candidate=number) for number in range(len(candidates))]
