"""The checks between a proposal and the log: nothing an agent wants becomes an event without passing here.

A quote must stand in the stored transcript; a decision or preference needs words the user said; nobody adds what is known;
a memory may only change in the version it was read at; one job may archive only so many.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from lerim_jobs.ids import derived, slug
from lerim_jobs.jobs.claims import Effect
from lerim_jobs.log.events import Event, MemoryAdded, MemoryArchived, MemoryMerged, MemoryUpdated, Quote
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.proposals import Candidate, Proposal
from lerim_jobs.sessions.transcript import Turn, find_quote

__all__ = ["Decided", "Rejected", "SessionRef", "Verdict", "check", "summary_effects", "summary_id"]

MAX_ARCHIVES = 25
_MAX_TITLE, _MAX_BODY, _MAX_TAGS, _MAX_QUOTE = 120, 8000, 8, 600
_SAME = 0.85
_NEEDS_THE_USER = {"decision", "preference"}
_WORD = re.compile(r"\w+")


class SessionRef(msgspec.Struct, frozen=True):
    """The session that proves a proposal, and the model that made it."""

    session_id: str
    stream: str
    agent: str
    model: str | None = None


class Rejected(msgspec.Struct, frozen=True):
    """A proposal that was refused."""

    action: str
    title: str
    reason: str


class Decided(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of one proposal: the memory it concerns, and why it was refused (None: it was not)."""

    memory_id: str | None = None
    refused: str | None = None


class Verdict(msgspec.Struct, frozen=True):
    """What to append, what was refused, and the counts: added, updated, merged, archived, unchanged, rejected.

    `decided` has one entry for each proposal, in their order.
    """

    effects: list[Effect]
    rejected: list[Rejected]
    counts: dict[str, int]
    decided: list[Decided] = []


class _No(Exception):
    """Why a proposal is refused."""


@dataclass
class _Bench:
    """What the checks look at and what they have let through so far."""

    candidates: Sequence[Candidate]
    memories: Mapping[str, Memory]
    turns: Sequence[Turn]
    session: SessionRef | None
    project_id: str
    job_key: str
    max_archives: int
    effects: dict[str, Effect] = field(default_factory=dict)
    added: list[tuple[str, str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def check(
    proposals: Sequence[Proposal],
    *,
    candidates: Sequence[Candidate],
    memories: Mapping[str, Memory],
    turns: Sequence[Turn],
    session: SessionRef | None,
    project_id: str,
    job_key: str,
    max_archives: int = MAX_ARCHIVES,
) -> Verdict:
    """Judge proposals in order; an earlier one that passed counts for the later ones."""
    bench = _Bench(candidates, memories, turns, session, project_id, job_key, max_archives)
    rejected: list[Rejected] = []
    decided: list[Decided] = []
    taken: set[int] = set()
    for proposal in proposals:
        try:
            if proposal.candidate is not None:
                _once(bench, proposal.candidate, taken)
            _JUDGES[proposal.action](bench, proposal)
            added = bench.added[-1][0] if proposal.action == "add" else proposal.memory_id
            decided.append(Decided(added))
        except _No as no:
            rejected.append(Rejected(proposal.action, _line(_title_of(bench, proposal)), str(no)))
            decided.append(Decided(proposal.memory_id, str(no)))
    undecided = [one.title for number, one in enumerate(candidates) if number not in taken]
    rejected += [Rejected("none", _line(title), "nobody decided about it") for title in undecided]
    names = ("added", "updated", "merged", "archived", "unchanged")
    counts = {**{name: bench.counts[name] for name in names}, "rejected": len(rejected)}
    return Verdict(list(bench.effects.values()), rejected, counts, decided)


def summary_id(project_id: str, stream: str) -> str:
    """A session has one summary, whatever happens."""
    return derived("summary", project_id, stream)


def summary_effects(
    *,
    title: str,
    body: str,
    session: SessionRef,
    turns: Sequence[Turn],
    project_id: str,
    memories: Mapping[str, Memory],
) -> list[Effect]:
    """Add the session's summary or bring it up to date; its quote is the first thing the user said."""
    memory_id = summary_id(project_id, session.stream)
    before = memories.get(memory_id)
    said = next((turn for turn in turns if turn.speaker == "user"), None)
    added = MemoryAdded(
        memory_id=memory_id,
        project_id=project_id,
        kind="summary",
        title=_line(title),
        body=_text(body),
        confidence=0.5,
        tags=["session"],
        quotes=[_quoted(said, said.text[:200].strip(), session)] if said else [],
        agent=session.agent,
        session_id=session.session_id,
        model=session.model,
    )
    if before is None:
        return [Effect(f"memory-{memory_id}", [added], 0)]
    if before.status in ("undone", "redacted"):
        return []  # somebody took it out: a grown session does not bring it back
    if (before.title, before.body) == (added.title, added.body):
        return []
    updated = MemoryUpdated(
        memory_id=memory_id,
        title=added.title,
        body=added.body,
        confidence=added.confidence,
        tags=added.tags,
        quotes=added.quotes,
        session_id=session.session_id,
        model=session.model,
    )
    return [Effect(f"memory-{memory_id}", [updated], before.version)]


# --- one judge per action --------------------------------------------------------------------------
def _add(bench: _Bench, proposal: Proposal) -> None:
    candidate = _candidate(bench, proposal)
    quote = _proof(bench, candidate)
    title, body = _line(proposal.title or candidate.title), _text(proposal.body or candidate.body)
    if not title or not body:
        raise _No("it has no title or no body")
    if twin := _twin(bench, candidate.kind, title, body):
        raise _No(f"it says the same as {twin}")
    assert bench.session is not None
    memory_id = derived(bench.project_id, candidate.kind, slug(title), bench.job_key, bench.session.stream)
    stream = f"memory-{memory_id}"
    if stream in bench.effects or memory_id in bench.memories:
        raise _No(f"it says the same as {memory_id}")
    added = MemoryAdded(
        memory_id=memory_id,
        project_id=bench.project_id,
        kind=candidate.kind,
        title=title,
        body=body,
        confidence=_share(proposal.confidence or candidate.confidence),
        tags=_tags(proposal.tags or candidate.tags),
        quotes=[quote],
        session_id=bench.session.session_id,
        agent=bench.session.agent,
        model=bench.session.model,
        reason=_line(proposal.reason),
    )
    bench.effects[stream] = Effect(stream, [added], 0)
    bench.added.append((memory_id, candidate.kind, f"{title} {body}"))
    bench.counts["added"] += 1


def _update(bench: _Bench, proposal: Proposal) -> None:
    candidate = _candidate(bench, proposal)
    memory = _current(bench, proposal)
    quote = _proof(bench, candidate)
    session = bench.session
    updated = MemoryUpdated(
        memory_id=memory.memory_id,
        title=_line(proposal.title or candidate.title),
        body=_text(proposal.body or candidate.body),
        confidence=_share(proposal.confidence or max(candidate.confidence, memory.confidence)),
        tags=_tags([*(proposal.tags or candidate.tags), *memory.tags]),
        quotes=[quote],
        session_id=session.session_id if session else None,
        model=session.model if session else None,
        reason=_line(proposal.reason),
    )
    _change(bench, memory, updated)
    bench.counts["updated"] += 1


def _merge(bench: _Bench, proposal: Proposal) -> None:
    survivor = _current(bench, proposal)
    absorbed = [_known(bench, one) for one in dict.fromkeys(proposal.absorbs) if one != survivor.memory_id]
    if not absorbed:
        raise _No("there is nothing to merge with it")
    streams = [f"memory-{one.memory_id}" for one in (survivor, *absorbed)]
    if taken := [stream for stream in streams if stream in bench.effects]:
        raise _No(f"{taken[0].removeprefix('memory-')} was changed by another proposal")
    updated = MemoryUpdated(
        memory_id=survivor.memory_id,
        title=_line(proposal.title or survivor.title),
        body=_text(proposal.body or survivor.body),
        confidence=_share(proposal.confidence or survivor.confidence),
        tags=_tags(proposal.tags or survivor.tags),
        quotes=[quote for one in absorbed for quote in one.quotes],
        reason=_line(proposal.reason),
    )
    _change(bench, survivor, updated)
    for one in absorbed:
        _change(bench, one, MemoryMerged(one.memory_id, survivor.memory_id, _line(proposal.reason)))
    bench.counts["merged"] += len(absorbed)


def _archive(bench: _Bench, proposal: Proposal) -> None:
    memory = _current(bench, proposal)
    if bench.counts["archived"] >= bench.max_archives:
        raise _No(f"one job archives at most {bench.max_archives}")
    _change(bench, memory, MemoryArchived(memory.memory_id, _line(proposal.reason)))
    bench.counts["archived"] += 1


def _skip(bench: _Bench, proposal: Proposal) -> None:
    bench.counts["unchanged"] += 1


_JUDGES = {"add": _add, "update": _update, "merge": _merge, "archive": _archive, "skip": _skip}


# --- what the judges ask ---------------------------------------------------------------------------
def _once(bench: _Bench, number: int, decided: set[int]) -> None:
    if not 0 <= number < len(bench.candidates):
        raise _No(f"there is no candidate {number}")
    if number in decided:
        raise _No(f"candidate {number} was decided before")
    decided.add(number)


def _candidate(bench: _Bench, proposal: Proposal) -> Candidate:
    if proposal.candidate is None:
        raise _No("it names no candidate")
    return bench.candidates[proposal.candidate]


def _proof(bench: _Bench, candidate: Candidate) -> Quote:
    turn = find_quote(bench.turns, candidate.quote) if bench.session else None
    if turn is None or bench.session is None:
        raise _No("its quote is not in the stored transcript")
    if candidate.kind in _NEEDS_THE_USER and turn.speaker == "tool":
        raise _No("only a tool said it: a rule needs the user's words")
    return _quoted(turn, candidate.quote.strip()[:_MAX_QUOTE], bench.session)


def _quoted(turn: Turn, text: str, session: SessionRef) -> Quote:
    return Quote(text, session.session_id, session.stream, session.agent, turn.n, turn.speaker, turn.at_ms)


def _known(bench: _Bench, memory_id: str | None) -> Memory:
    memory = bench.memories.get(memory_id or "")
    if memory is None or memory.project_id != bench.project_id:
        raise _No(f"there is no memory {memory_id!r} in this project")
    if memory.status != "active":
        raise _No(f"{memory_id} is {memory.status}")
    return memory


def _current(bench: _Bench, proposal: Proposal) -> Memory:
    memory = _known(bench, proposal.memory_id)
    if proposal.version not in (None, memory.version):
        raise _No(f"{memory.memory_id} changed since it was read")
    return memory


def _change(bench: _Bench, memory: Memory, event: Event) -> None:
    stream = f"memory-{memory.memory_id}"
    if stream in bench.effects:
        raise _No(f"{memory.memory_id} was changed by another proposal")
    bench.effects[stream] = Effect(stream, [event], memory.version)


def _twin(bench: _Bench, kind: str, title: str, body: str) -> str | None:
    """The memory, stored or added in this run, that says the same: the same title and kind, or nearly the same words."""
    text = f"{title} {body}"
    stored = [
        (one.memory_id, one.kind, f"{one.title} {one.body}")
        for one in bench.memories.values()
        if one.status == "active" and one.project_id == bench.project_id and one.kind != "summary"
    ]
    for memory_id, other_kind, other in (*stored, *bench.added):
        if other_kind == kind and _alike(text, other):
            return memory_id
    return None


def _alike(one: str, other: str) -> bool:
    mine, theirs = _words(one), _words(other)
    return bool(mine) and len(mine & theirs) / len(mine | theirs) >= _SAME


def _words(text: str) -> set[str]:
    return set(_WORD.findall(unicodedata.normalize("NFKC", text).casefold()))


def _title_of(bench: _Bench, proposal: Proposal) -> str:
    number = proposal.candidate
    if number is not None and 0 <= number < len(bench.candidates):
        return bench.candidates[number].title
    memory = bench.memories.get(proposal.memory_id or "")
    return memory.title if memory else proposal.title


def _line(text: str) -> str:
    """One printable line."""
    return " ".join(_text(text).split())[:_MAX_TITLE]


def _text(text: str) -> str:
    """Without control characters, which could hide or fake what a terminal shows."""
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co"))
    return "".join(kept).strip()[:_MAX_BODY]


def _tags(tags: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(slug(tag, limit=30) for tag in tags if tag.strip()))[:_MAX_TAGS]


def _share(value: float) -> float:
    return round(min(1.0, max(0.0, value)), 4)
