"""What the judges look at: candidates, memories, the transcript that proves, and what passed before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from msgspec import structs

from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.log.events import Event, Quote
from lerim_jobs.memory.checks.proof import Refused, Witness, quoted, same_quote
from lerim_jobs.memory.checks.similarity import Said, words
from lerim_jobs.memory.checks.summaries import SessionRef
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.proposals import Candidate, Proposal

__all__ = ["Bench", "Text"]


class Text(NamedTuple):
    """What a memory says, or is to say."""

    title: str
    body: str

    @property
    def whole(self) -> str:
        """Title and body in one."""
        return f"{self.title} {self.body}"


@dataclass
class Bench:
    """What the judges look at, and what they have let through so far."""

    candidates: Sequence[Candidate]
    memories: Mapping[str, Memory]
    witness: Witness
    session: SessionRef | None
    model: str | None
    project_id: str
    job_key: str
    room: int
    """How many memories may still be taken away."""
    effects: dict[str, Effect] = field(default_factory=dict)
    added: dict[str, Said] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    parted: dict[int, str] = field(default_factory=dict)
    """Candidates that could not be joined with another, by number, and why."""

    def like(self, text: Text) -> Iterator[Memory]:
        """Active memories that share at least half of the words, roughly: worth a closer look."""
        mine = words(text.whole)
        for memory, theirs in self._roughly:
            if 2 * len(mine & theirs) >= min(len(mine), len(theirs)):
                yield memory

    @cached_property
    def _roughly(self) -> list[tuple[Memory, frozenset[str]]]:
        return [(one, words(f"{one.title} {one.body}")) for one in self._kept if one.status == "active"]

    @cached_property
    def places(self) -> dict[tuple[str, int], list[Memory]]:
        """Memories of the project, whatever became of them, by the turns that prove them; summaries aside."""
        found: dict[tuple[str, int], list[Memory]] = {}
        for one in self._kept:
            for place in {(quote.stream, quote.turn) for quote in one.quotes}:
                found.setdefault(place, []).append(one)
        return found

    @property
    def _kept(self) -> Iterator[Memory]:
        for one in self.memories.values():
            if one.project_id == self.project_id and one.kind != "summary":
                yield one

    def candidate(self, proposal: Proposal) -> Candidate:
        """The candidate a proposal is about, of the kind that the proposal gives it."""
        if proposal.candidate is None:
            raise Refused("it names no candidate")
        found = self.candidates[proposal.candidate]
        return structs.replace(found, kind=proposal.kind) if proposal.kind else found

    def about(self, proposal: Proposal) -> list[Candidate]:
        """The candidate, and those joined with it whose proof stands."""
        joined = [self.candidates[number] for number in proposal.also if number not in self.parted]
        return [self.candidate(proposal), *joined]

    def known(self, memory_id: str | None) -> Memory:
        """An active memory of the project that agents may change."""
        memory = self.memories.get(memory_id or "")
        if memory is None or memory.project_id != self.project_id:
            raise Refused(f"there is no memory {memory_id!r} in this project")
        if memory.status != "active":
            raise Refused(f"{memory_id} is {memory.status}")
        if memory.kind == "summary":
            raise Refused(f"{memory_id} is a session's summary")
        return memory

    def current(self, proposal: Proposal) -> Memory:
        """The memory a proposal changes, in the version it was read at."""
        memory = self.known(proposal.memory_id)
        if proposal.version not in (None, memory.version):
            raise Refused(f"{memory.memory_id} changed since it was read")
        return memory

    def untouched(self, *memories: Memory) -> None:
        """Refuse what another proposal of this run changed already."""
        for memory in memories:
            if f"memory-{memory.memory_id}" in self.effects:
                raise Refused(f"{memory.memory_id} was changed by another proposal")

    def take_away(self, count: int) -> None:
        """Use up room for memories that will no longer be active."""
        if count > self.room:
            raise Refused(f"it takes {count} away, and only {self.room} more may be in this job (max_archived_per_job)")
        self.room -= count

    def change(self, memory: Memory, event: Event) -> None:
        """Let one change of a stored memory through."""
        self.untouched(memory)
        stream = f"memory-{memory.memory_id}"
        self.effects[stream] = Effect(stream, [event], memory.version)

    def proofs(self, proposal: Proposal, over: Memory | None, text: Text) -> tuple[list[Quote], float]:
        """The quotes that will prove `text`, that of the proposal's candidate first, and its confidence. Raises Refused.

        Each candidate joined with it is proved by itself; one that is not is `parted` from it, and the rest goes on.
        """
        quote, confidence = self._proof(self.candidate(proposal), over, text)
        quotes = [quote]
        for number in proposal.also:
            other = self.candidates[number]
            try:
                quote, _ = self._proof(other, over, Text(other.title, other.body))
            except Refused as no:
                self.parted[number] = str(no)
                continue
            if not any(same_quote(quote, one) for one in quotes):
                quotes.append(quote)
        return quotes, confidence

    def _proof(self, candidate: Candidate, over: Memory | None, text: Text) -> tuple[Quote, float]:
        if self.session is None:
            raise Refused("its quote is not in the stored transcript")
        turn, most = self.witness.turn_of(candidate, over, text.whole)
        about = self.session
        quote = quoted(turn, candidate.quote, session_id=about.session_id, stream=about.stream, agent=about.agent)
        self._not_gone(quote)
        return quote, min(most, candidate.confidence)

    def _not_gone(self, quote: Quote) -> None:
        """What was archived or undone does not come back on the same sentence: only somebody can restore it, or say it again."""
        for one in self.places.get((quote.stream, quote.turn), ()):
            gone = one.status in ("archived", "undone")
            if gone and any(same_quote(quote, known) for known in one.quotes):
                why = f" ({one.reason})" if one.reason else ""
                raise Refused(f"the same sentence made {one.memory_id}, which is {one.status}{why}")
