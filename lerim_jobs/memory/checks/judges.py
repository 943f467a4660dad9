"""One judge per proposed action: each looks at what is stored and at what passed before, and adds effects or refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lerim_jobs.ids import derived, slug
from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.log.events import MemoryAdded, MemoryArchived, MemoryMerged, MemoryUpdated, Quote
from lerim_jobs.memory import wording
from lerim_jobs.memory.checks.bench import Bench, Text
from lerim_jobs.memory.checks.order import is_older
from lerim_jobs.memory.checks.proof import RULES, Refused, same_quote
from lerim_jobs.memory.checks.similarity import Said, covered, same_fact, stems
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.proposals import Action, Candidate, Proposal

__all__ = ["JUDGES"]

_FEWEST_CONSOLIDATED = 3
_KNOWN_WORDS = 0.5
"""At least this share of a changed text must be words of what it is made from."""


# --- one judge per action --------------------------------------------------------------------------
def add(bench: Bench, proposal: Proposal) -> None:
    """A new memory."""
    _new(bench, proposal, instead_of=None)


def supersede(bench: Bench, proposal: Proposal) -> None:
    """A new memory, and the one that is no longer true archived in the same commit, pointing to it. What was said before the one
    that it should replace goes to the archive itself: what was true once is kept, and the later word stays.
    """
    old = bench.current(proposal)
    bench.untouched(old)
    quotes, _ = bench.proofs(proposal, old, _wanted(bench, proposal))
    if is_older(quotes, old):
        memory_id = _new(bench, proposal, instead_of=old)
        reason = wording.line(f"superseded by {old.memory_id}: said before it", limit=300)
        stream = f"memory-{memory_id}"
        known = bench.effects[stream]
        archived = MemoryArchived(memory_id, reason, old.memory_id)
        bench.effects[stream] = Effect(stream, [*known.events, archived], known.expected)
        del bench.added[memory_id]
        bench.counts["archived"] += 1
        return
    bench.take_away(1)
    try:
        memory_id = _new(bench, proposal, instead_of=old)
    except Refused:
        bench.room += 1
        raise
    reason = wording.line(f"superseded by {memory_id}: {proposal.reason}", limit=300)
    bench.change(old, MemoryArchived(old.memory_id, reason, memory_id))
    bench.counts["archived"] += 1


def update(bench: Bench, proposal: Proposal) -> None:
    """A stored memory made more exact by a candidate, whose quote joins its proof. What was said before adds its proof alone."""
    candidate, memory = bench.candidate(proposal), bench.current(proposal)
    title, body = wanted = _wanted(bench, proposal)
    if not title or not body:
        raise Refused("it has no title or no body")
    quotes, confidence = bench.proofs(proposal, memory, wanted)
    quotes = [quote for quote in quotes if not any(same_quote(quote, one) for one in memory.quotes)]
    if not quotes:
        raise Refused(f"its quote is part of {memory.memory_id} already")
    _from(wanted, _text_of(memory), *map(_text_of_candidate, bench.about(proposal)))
    if is_older(quotes, memory):
        title, body = memory.title, memory.body
    session = bench.session
    updated = MemoryUpdated(
        memory_id=memory.memory_id,
        title=title,
        body=body,
        confidence=wording.share(proposal.confidence or max(confidence, memory.confidence)),
        tags=wording.tags([*(proposal.tags or candidate.tags), *memory.tags]),
        quotes=quotes,
        session_id=session.session_id if session else None,
        model=bench.model,
        reason=wording.line(proposal.reason, limit=300),
    )
    bench.change(memory, updated)
    bench.counts["updated"] += 1


def merge(bench: Bench, proposal: Proposal) -> None:
    """Several memories into one of them, which carries all their quotes."""
    survivor = bench.current(proposal)
    absorbed = [bench.known(one) for one in dict.fromkeys(proposal.absorbs) if one != survivor.memory_id]
    if not absorbed:
        raise Refused("there is nothing to merge with it")
    bench.untouched(survivor, *absorbed)
    title, body = wording.line(proposal.title or survivor.title), wording.text(proposal.body or survivor.body)
    _may_merge(survivor, absorbed, title, body)
    _from(Text(title, body), *map(_text_of, (survivor, *absorbed)))
    bench.take_away(len(absorbed))
    reason = wording.line(proposal.reason, limit=300)
    updated = MemoryUpdated(
        memory_id=survivor.memory_id,
        title=title,
        body=body,
        confidence=wording.share(proposal.confidence or survivor.confidence),
        tags=wording.tags(proposal.tags or survivor.tags),
        quotes=[quote for one in absorbed for quote in one.quotes],
        model=bench.model,
        reason=reason,
    )
    bench.change(survivor, updated)
    for one in absorbed:
        bench.change(one, MemoryMerged(one.memory_id, survivor.memory_id, reason))
    bench.counts["merged"] += len(absorbed)


def consolidate(bench: Bench, proposal: Proposal) -> None:
    """Three or more related memories into one of them."""
    if len({proposal.memory_id, *proposal.absorbs}) < _FEWEST_CONSOLIDATED:
        raise Refused(f"fewer than {_FEWEST_CONSOLIDATED} memories are not consolidated")
    merge(bench, proposal)


def archive(bench: Bench, proposal: Proposal) -> None:
    """A memory not worth keeping."""
    memory = bench.current(proposal)
    if memory.by_hand:
        raise Refused(f"{memory.memory_id} was written or edited by hand")
    decay(bench, proposal)


def decay(bench: Bench, proposal: Proposal) -> None:
    """A memory that faded by the formula, whoever wrote it."""
    memory = bench.current(proposal)
    bench.untouched(memory)
    bench.take_away(1)
    bench.change(memory, MemoryArchived(memory.memory_id, wording.line(proposal.reason, limit=300)))
    bench.counts["archived"] += 1


def skip(bench: Bench, proposal: Proposal) -> None:
    """Nothing happens; the reason is kept."""
    bench.counts["unchanged"] += 1


JUDGES: dict[Action, Callable[[Bench, Proposal], None]] = {
    "add": add,
    "supersede": supersede,
    "update": update,
    "merge": merge,
    "consolidate": consolidate,
    "archive": archive,
    "decay": decay,
    "skip": skip,
}


# --- what the judges ask ---------------------------------------------------------------------------
def _new(bench: Bench, proposal: Proposal, instead_of: Memory | None) -> str:
    candidate = bench.candidate(proposal)
    title, body = wanted = _wanted(bench, proposal)
    quotes, confidence = bench.proofs(proposal, instead_of, wanted)
    if not title or not body:
        raise Refused("it has no title or no body")
    if proposal.title or proposal.body:
        _from(wanted, *map(_text_of_candidate, bench.about(proposal)))
    if twin := _twin(bench, candidate, wanted, quotes[0], instead_of):
        raise Refused(f"it says the same as {twin}")
    assert bench.session is not None
    memory_id = derived(bench.project_id, candidate.kind, slug(title), bench.job_key, bench.session.stream)
    stream = f"memory-{memory_id}"
    if stream in bench.effects or memory_id in bench.memories:
        raise Refused(f"it says the same as {memory_id}")
    added = MemoryAdded(
        memory_id=memory_id,
        project_id=bench.project_id,
        kind=candidate.kind,
        title=title,
        body=body,
        confidence=wording.share(min(proposal.confidence or confidence, confidence)),
        tags=wording.tags(proposal.tags or candidate.tags),
        quotes=quotes,
        session_id=bench.session.session_id,
        agent=bench.session.agent,
        model=bench.model,
        reason=wording.line(proposal.reason, limit=300),
    )
    bench.effects[stream] = Effect(stream, [added], 0)
    bench.added[memory_id] = Said(title, body)
    bench.counts["added"] += 1
    return memory_id


def _wanted(bench: Bench, proposal: Proposal) -> Text:
    """What a new memory would say: the candidate's words where the proposal has none of its own."""
    candidate = bench.candidate(proposal)
    return Text(wording.line(proposal.title or candidate.title), wording.text(proposal.body or candidate.body))


def _twin(bench: Bench, candidate: Candidate, text: Text, quote: Quote, instead_of: Memory | None) -> str | None:
    """The memory, stored or added in this run, that says the same, or was made of this very sentence before.

    What is superseded may say the same when it is of another kind: an insight that the user made a decision.
    """
    new = Said(*text)
    for memory_id, said in bench.added.items():
        if same_fact(new, said):
            return memory_id
    for one in bench.places.get((quote.stream, quote.turn), ()):
        made_before = one.status == "active" and one.kind == candidate.kind
        if made_before and any(same_quote(quote, known) for known in one.quotes):
            return one.memory_id
    other_kind = instead_of.memory_id if instead_of and instead_of.kind != candidate.kind else None
    for one in bench.like(text):
        if one.memory_id != other_kind and same_fact(new, Said(one.title, one.body)):
            return one.memory_id
    return None


def _may_merge(survivor: Memory, absorbed: Sequence[Memory], title: str, body: str) -> None:
    if written := [one.memory_id for one in absorbed if one.by_hand]:
        raise Refused(f"{written[0]} was written or edited by hand")
    if survivor.by_hand and (title, body) != (survivor.title, survivor.body):
        raise Refused(f"{survivor.memory_id} was written or edited by hand: its words stay")
    if survivor.kind in RULES and any(one.kind not in RULES for one in absorbed):
        raise Refused("a decision or preference takes only others of those in: a rule needs the user's words")


def _from(text: Text, *sources: str) -> None:
    """A changed text says what it is made from; what a model adds of its own is refused."""
    if covered(text.whole, stems("\n".join(sources))) < _KNOWN_WORDS:
        raise Refused("most of its words are in nothing it is made from")


def _text_of(memory: Memory) -> str:
    return "\n".join((memory.title, memory.body, *(quote.text for quote in memory.quotes)))


def _text_of_candidate(candidate: Candidate) -> str:
    return "\n".join((candidate.title, candidate.body, candidate.quote))
