"""Whose words prove what, when two texts are one fact, and which memories a clean-up looks at together."""

from __future__ import annotations

from typing import Any

import pytest

from lerim_jobs.errors import ConfigError
from lerim_jobs.log.events import Quote
from lerim_jobs.memory.checks.batches import batch_key, batches
from lerim_jobs.memory.checks.proof import Refused, Witness, same_quote
from lerim_jobs.memory.checks.similarity import Said, covered, same_fact, stems
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.proposals import Candidate
from lerim_jobs.sessions.speech import others_words, own_words
from lerim_jobs.sessions.transcript import Turn
from workers.cues import completes, corrects

PROPOSAL = "I propose to store the orders in Postgres with one schema a tenant."


def turns(*said: tuple[str, str]) -> list[Turn]:
    return [Turn(n, speaker, text, str(n)) for n, (speaker, text) in enumerate(said)]  # type: ignore[arg-type]


def rule(title: str, quote: str, body: str = "") -> Candidate:
    return Candidate("decision", title, body or title, 0.8, quote)


def judge(candidate: Candidate, *said: tuple[str, str], title: str = "") -> float:
    return Witness(turns(*said), [title]).turn_of(candidate, None, f"{candidate.title} {candidate.body}")[1]


# --- proof -----------------------------------------------------------------------------------------
def test_agreeing_with_the_agent_gives_its_proposal_the_users_word() -> None:
    found = rule("Store orders in Postgres, one schema a tenant", "Yes, do that.")
    assert judge(found, ("assistant", PROPOSAL), ("user", "Yes, do that.")) == 1.0
    with pytest.raises(Refused):
        judge(found, ("tool", f"error: {PROPOSAL}"), ("user", "Yes, do that."))
    with pytest.raises(Refused):
        judge(
            found, ("assistant", PROPOSAL), ("tool", f"error: {PROPOSAL}"), ("user", "Hm."), ("user", "Yes, do that.")
        )


def test_other_languages_commit_messages_and_titles_do_not_cost_a_memory() -> None:
    german = rule("Store the orders in Postgres", "Nimm bitte Postgres dafür.")
    commit = ("tool", 'Bash: {"command": "git commit -m \'Store the orders in Postgres\'"}')
    assert judge(german, ("user", "Nimm bitte Postgres dafür."), commit, title="Store the orders in Postgres") == 1.0


def test_what_the_tool_printed_before_is_not_the_users_sentence_but_after_it_is() -> None:
    printed = ("tool", "error: we always push to main")
    said = ("user", "we always push to main")
    found = rule("We always push to main", "we always push to main")
    assert judge(found, said, printed) == 1.0
    with pytest.raises(Refused, match="in his own words"):
        judge(found, printed, said)


def test_pasted_text_gives_little_confidence_and_no_procedure() -> None:
    pasted = ("user", "Look:\n```\nrestart the queue with make kick\n```")
    seen = Candidate("pitfall", "Queue", "It needs a kick.", 0.9, "restart the queue with make kick")
    assert judge(seen, pasted) == 0.4
    assert judge(seen, ("user", "restart the queue with make kick")) == 1.0
    with pytest.raises(Refused, match="procedure"):
        judge(Candidate("procedure", "Queue", "Kick it.", 0.9, seen.quote), pasted)


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("one\n```py\ntwo\n```\nthree", ["one", "three"]),
        ("one\n> two\n| three\n$ four\nfive", ["one", "five"]),
        ("one\n[2026-01-02 10:11:12] two\nERROR three\nErrors are bad", ["one", "Errors are bad"]),
        ("one\nHuman: two\n\nthree", ["one"]),
        ("one\n- **Assistant:** two\nthree", ["one"]),
        ("```\nUser: one\n```\ntwo", ["two"]),
        ("one\n~~~\ntwo", ["one"]),
    ],
)
def test_own_words(text: str, own: list[str]) -> None:
    assert [line for line in own_words(text).splitlines() if line.strip("\x00")] == own
    assert not any(line in others_words(text).splitlines() for line in own)


# --- one fact or two -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Carts live in Redis for the shop", "carts live in  Redis, for the shop!", True),
        ("Carts live in Redis for the whole of the shop", "Carts live in Redis for the whole of the shop now", True),
        ("Carts live in Redis for the whole of the shop", "Carts live in MySQL for the whole of the shop", False),
        ("Carts live 14 days in Redis for the whole shop", "Carts live 30 days in Redis for the whole shop", False),
        ("We always push to main in this small project", "We never push to main in this small project", False),
        ("Carts live in Redis", "Deploys happen on Mondays", False),
    ],
)
def test_the_same_fact(one: str, other: str, same: bool) -> None:
    assert same_fact(Said(one, one), Said(other, other)) is same
    assert same_fact(Said(other, other), Said(one, one)) is same


def test_one_title_over_related_bodies_is_one_fact() -> None:
    carts = Said("Cart storage", "Carts are kept in Redis.")
    assert same_fact(carts, Said("cart  storage", "Carts are kept in Redis by key."))
    assert not same_fact(carts, Said("Cart storage", "Boxes of the warehouse crew."))


def test_quotes_of_one_place_are_one_when_one_is_most_of_the_other() -> None:
    def quote(text: str, turn: int = 3) -> Quote:
        return Quote(text, "s", "session-codex-1", "codex", turn, "user")

    assert same_quote(quote("we use tabs"), quote("we  use\ntabs here"))
    assert not same_quote(quote("we use tabs"), quote("we use tabs", turn=4))
    assert not same_quote(quote("we use"), quote("we use tabs in all of the Go files"))


def test_covered_counts_meaning_words() -> None:
    assert covered("Deciding on Postgres tables", stems("we decided: postgres")) == pytest.approx(2 / 3)
    assert covered("the of a", stems("")) == 1.0


# --- the offline model's corrections ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("later", "earlier", "is_correction"),
    [
        (
            "No, let's use SQLite for the orders instead of Postgres.",
            "We decided to use Postgres for the orders.",
            True,
        ),
        ("We keep carts for sixty days.", "We keep carts for fourteen days.", True),
        ("Please always run the tests before a commit.", "Please always run the linter before a commit.", False),
        ("We switched the mailer to SES.", "We decided to use Postgres for the orders.", False),
    ],
)
def test_a_correction_takes_back_and_a_similar_wish_does_not(later: str, earlier: str, is_correction: bool) -> None:
    assert corrects(later, earlier) is is_correction
    assert not completes(later, earlier)


# --- batches ---------------------------------------------------------------------------------------
def known(number: int, title: str, **fields: Any) -> Memory:
    given = {"body": title, "confidence": 0.7, "version": 1, "created_ms": number, "updated_ms": 0, "accessed_ms": 0}
    return Memory(f"m{number:05}", "p", "insight", title, **{**given, **fields})


def test_duplicates_meet_in_thousands_of_memories_and_the_plan_is_stable() -> None:
    many = [known(n, f"topic{n:05} about thing{n * 7:05} and word{n * 13:05}") for n in range(5000)]
    pairs = [
        (known(9000 + n, f"Rare{n}x lamps glow{n}y in green{n}z"), known(n, f"Rare{n}x lamps glow{n}y")) for n in (1, 2)
    ]
    many[1], many[2] = pairs[0][1], pairs[1][1]
    weak = known(8000, "lonely unique statement", confidence=0.1)
    everything = [*many, *(pair[0] for pair in pairs), weak]
    found = batches(everything, 100)
    for pair in pairs:
        assert any({one.memory_id for one in pair} <= {one.memory_id for one in batch} for batch in found)
    assert any(weak in batch for batch in found)
    assert sum(map(len, found)) <= 20
    assert found == batches(list(reversed(everything)), 100)


def test_small_projects_are_one_batch_and_no_batch_is_too_large() -> None:
    few = [known(n, f"Carts rule {n}") for n in range(7)]
    assert batches(few, 7) == [few]
    assert batches(few[:1], 7) == []
    assert max(map(len, batches(few, 3))) <= 3


def test_the_key_of_a_batch_changes_with_any_memory() -> None:
    one, two = known(1, "a"), known(2, "b")
    assert batch_key([one, two]) == batch_key([known(1, "a"), two])
    assert len({batch_key([one, two]), batch_key([one]), batch_key([one, known(2, "b", version=2)])}) == 3


@pytest.mark.parametrize(
    "text",
    [
        "[memory]\nmax_archived_per_job = -1",
        "[memory]\ncurate_batch = 1",
        "[memory]\ncurate_batches = 0",
        "[decay]\ndecay_days = 0",
        "[decay]\narchive_threshold = 2.0",
        "[decay]\nrecent_access_grace_days = -1",
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Any, text: str) -> None:
    from lerim_jobs import config

    (tmp_path / "config.toml").write_text(text, "utf-8")
    with pytest.raises(ConfigError):
        config.load({"LERIM_HOME": str(tmp_path)})
