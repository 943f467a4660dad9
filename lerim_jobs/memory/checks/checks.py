"""The checks between a proposal and the log: nothing an agent wants becomes an event without passing here.

A quote must stand in the stored transcript; a decision or preference needs the user's own words (`proof.py`); nobody adds
what is known, or brings back what was archived; a memory may only change in the version it was read at; one job may
archive only so many (`judges.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.memory import wording
from lerim_jobs.memory.checks.bench import Bench
from lerim_jobs.memory.checks.judges import JUDGES
from lerim_jobs.memory.checks.proof import Refused, Witness
from lerim_jobs.memory.checks.summaries import SessionRef
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.proposals import Candidate, Proposal
from lerim_jobs.sessions.transcript import Turn

__all__ = ["MAX_ARCHIVES", "Decided", "Rejected", "Verdict", "check"]

MAX_ARCHIVES = 50


class Rejected(msgspec.Struct, frozen=True):
    """A proposal that was refused."""

    action: str
    title: str
    reason: str


class Decided(msgspec.Struct, frozen=True):
    """What became of one proposal: the memory it is about, and why it was refused, None where it was not."""

    memory_id: str | None
    refused: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What to append, what was refused, and the counts: added, updated, merged, archived, unchanged, rejected.

    `decided` has one entry for each proposal, in their order.
    """

    effects: list[Effect]
    rejected: list[Rejected]
    counts: dict[str, int]
    decided: list[Decided] = []


def check(
    proposals: Sequence[Proposal],
    *,
    candidates: Sequence[Candidate],
    memories: Mapping[str, Memory],
    turns: Sequence[Turn],
    session: SessionRef | None,
    project_id: str,
    job_key: str,
    session_title: str = "",
    max_archives: int = MAX_ARCHIVES,
    model: str | None = None,
) -> Verdict:
    """Judge proposals in order; an earlier one that passed counts for the later ones.

    `max_archives` is how many memories they may take away together: archived, merged, consolidated or superseded. `model`
    is the one that proposed, where no `session` names it.
    """
    witness = Witness(turns, [session_title])
    model = session.model if session else model
    bench = Bench(candidates, memories, witness, session, model, project_id, job_key, max(0, max_archives))
    rejected: list[Rejected] = []
    decided: list[Decided] = []
    taken: set[int] = set()
    for proposal in proposals:
        try:
            for number in (proposal.candidate, *proposal.also):
                _once(bench, number, taken)
            JUDGES[proposal.action](bench, proposal)
            decided.append(Decided(next(reversed(bench.added)) if proposal.action == "add" else proposal.memory_id))
        except Refused as no:
            rejected.append(Rejected(proposal.action, wording.line(_title_of(bench, proposal)), str(no)))
            decided.append(Decided(proposal.memory_id, str(no)))
    rejected += [Rejected("join", wording.line(candidates[n].title), why) for n, why in bench.parted.items()]
    undecided = [one.title for number, one in enumerate(candidates) if number not in taken]
    rejected += [Rejected("none", wording.line(title), "nobody decided about it") for title in undecided]
    names = ("added", "updated", "merged", "archived", "unchanged")
    counts = {**{name: bench.counts[name] for name in names}, "rejected": len(rejected)}
    return Verdict(list(bench.effects.values()), rejected, counts, decided)


def _once(bench: Bench, number: int | None, decided: set[int]) -> None:
    if number is None:
        return
    if not 0 <= number < len(bench.candidates):
        raise Refused(f"there is no candidate {number}")
    if number in decided:
        raise Refused(f"candidate {number} was decided before")
    decided.add(number)


def _title_of(bench: Bench, proposal: Proposal) -> str:
    number = proposal.candidate
    if number is not None and 0 <= number < len(bench.candidates):
        return bench.candidates[number].title
    memory = bench.memories.get(proposal.memory_id or "")
    return memory.title if memory else proposal.title
