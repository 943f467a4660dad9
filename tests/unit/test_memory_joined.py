"""What the lead may mend: a candidate's kind and words, and candidates that it joins."""

from __future__ import annotations

from typing import Any

import pytest

from lerim_jobs.log.events import MemoryAdded, MemoryArchived, MemoryUpdated, Quote
from lerim_jobs.memory.checks.checks import Verdict, check
from lerim_jobs.memory.checks.summaries import SessionRef
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.proposals import Candidate, Proposal
from lerim_jobs.sessions.transcript import Turn

TURNS = [
    Turn(0, "user", "Prices are shown with two decimals.", "a", 5),
    Turn(1, "assistant", "The importer rounds prices half to even.", "b", 6),
    Turn(2, "user", "And totals too, two decimals everywhere.", "c", 7),
    Turn(3, "tool", "warning: totals are cached for a minute", "d", 8),
]
PRICES = Candidate(
    "insight", "Prices have two decimals", "Prices are shown with two decimals.", 0.9, TURNS[0].text, [], 0
)
ROUNDS = Candidate("insight", "The importer rounds", "Prices are rounded half to even.", 0.7, TURNS[1].text, [], 1)
TOTALS = Candidate(
    "decision", "Totals have two decimals", "Totals are shown with two decimals.", 0.8, TURNS[2].text, [], 2
)
CACHED = Candidate("pitfall", "Totals are cached", "For a minute.", 0.4, TURNS[3].text, [], 3)
NOWHERE = Candidate("insight", "Prices are in euros", "Always.", 0.9, "Prices are in euros.", [], 0)
EVERYTHING = [PRICES, ROUNDS, TOTALS, CACHED, NOWHERE]
BOTH = "Prices and totals are shown with two decimals everywhere."


def judge(*proposals: Proposal, known: list[Memory] | None = None) -> Verdict:
    return check(
        proposals,
        candidates=EVERYTHING,
        memories={one.memory_id: one for one in known or []},
        turns=TURNS,
        session=SessionRef("s1", "session-codex-1", "codex", "some-model"),
        project_id="p",
        job_key="job",
    )


def only_event(verdict: Verdict) -> Any:
    (effect,) = verdict.effects
    (event,) = effect.events
    return event


def known(kind: Any = "decision", **fields: Any) -> Memory:
    quotes = [Quote("Show decimals.", "s0", "session-codex-0", "codex", 0, "user", 1)]
    given = {"title": "Decimals", "body": "Prices are shown with decimals.", "confidence": 0.6, "version": 1}
    times = {"created_ms": 0, "updated_ms": 0, "accessed_ms": 0}
    return Memory(memory_id="m1", project_id="p", kind=kind, quotes=quotes, **{**given, **times, **fields})


def refused(verdict: Verdict) -> dict[str, str]:
    return {one.title: one.reason for one in verdict.rejected if one.reason != "nobody decided about it"}


def test_a_wrong_kind_is_mended() -> None:
    added = only_event(judge(Proposal("add", candidate=0, kind="decision")))
    assert isinstance(added, MemoryAdded)
    assert (added.kind, added.confidence) == ("decision", 0.9)


@pytest.mark.parametrize("number", [1, 3])
def test_a_mended_rule_still_needs_the_users_word(number: int) -> None:
    verdict = judge(Proposal("add", candidate=number, kind="preference"))
    assert "the user's words" in refused(verdict)[EVERYTHING[number].title]
    assert verdict.effects == []


def test_joined_candidates_are_one_memory_with_the_proof_of_all() -> None:
    verdict = judge(
        Proposal("add", candidate=0, also=[2, 1], kind="decision", title="Two decimals everywhere", body=BOTH)
    )
    added = only_event(verdict)
    assert (added.title, added.body, added.kind) == ("Two decimals everywhere", BOTH, "decision")
    assert [(quote.turn, quote.speaker) for quote in added.quotes] == [(0, "user"), (2, "user"), (1, "assistant")]
    assert [one.title for one in verdict.rejected] == [CACHED.title, NOWHERE.title]
    assert verdict.counts["added"] == 1


def test_one_that_is_not_proved_is_left_out_and_the_others_are_joined() -> None:
    verdict = judge(Proposal("add", candidate=0, also=[4, 2]), Proposal("skip", candidate=1))
    assert [quote.turn for quote in only_event(verdict).quotes] == [0, 2]
    assert refused(verdict) == {NOWHERE.title: "its quote is not in the stored transcript"}
    assert {one.action for one in verdict.rejected} == {"join", "none"}


def test_words_of_its_own_are_those_of_what_it_is_made_from() -> None:
    verdict = judge(Proposal("add", candidate=0, also=[2], title="Rounding", body="Bankers like commercial rounding."))
    assert refused(verdict) == {PRICES.title: "most of its words are in nothing it is made from"}
    with_its_words = judge(Proposal("add", candidate=0, also=[4], title="Always euros", body="Euros, always."))
    assert "most of its words" in refused(with_its_words)[PRICES.title]


@pytest.mark.parametrize("also", [[0], [2, 2], [9], [-1]])
def test_each_candidate_is_decided_once(also: list[int]) -> None:
    verdict = judge(Proposal("add", candidate=0, also=also))
    assert verdict.effects == []
    assert refused(verdict)


def test_a_stored_memory_takes_in_several_at_once() -> None:
    verdict = judge(Proposal("update", candidate=0, also=[2], memory_id="m1", body=BOTH), known=[known()])
    updated = only_event(verdict)
    assert isinstance(updated, MemoryUpdated)
    assert [quote.turn for quote in updated.quotes] == [0, 2]
    assert updated.body == BOTH


def test_a_rule_takes_in_the_users_words_alone() -> None:
    verdict = judge(Proposal("update", candidate=0, also=[1], memory_id="m1"), known=[known()])
    assert [quote.turn for quote in only_event(verdict).quotes] == [0]
    assert "the user's words" in refused(verdict)[ROUNDS.title]
    of_anybody = judge(Proposal("update", candidate=0, also=[1], memory_id="m1"), known=[known("insight")])
    assert [quote.turn for quote in only_event(of_anybody).quotes] == [0, 1]


def test_what_replaces_a_memory_may_be_mended_and_joined() -> None:
    old = known("insight", body="Prices are shown without decimals.")
    verdict = judge(Proposal("supersede", candidate=0, also=[2], kind="decision", memory_id="m1"), known=[old])
    added, archived = (effect.events[0] for effect in verdict.effects)
    assert isinstance(added, MemoryAdded)
    assert (added.kind, [quote.turn for quote in added.quotes]) == ("decision", [0, 2])
    assert isinstance(archived, MemoryArchived)
    assert archived.superseded_by == added.memory_id
