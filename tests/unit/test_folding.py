"""Words compared as people and models write them, and the turn they are from."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerim_jobs.sessions.folding import contains, fold, spelling
from lerim_jobs.sessions.placing import placed
from lerim_jobs.sessions.transcript import Speaker, Turn, as_said, find_quote, said_in

SAID = "Right: **“We’ll keep the café’s ledger — never in Excel…”**\nand run `make ledger`; ÉTÉ first."


@pytest.mark.parametrize(
    ("quote", "spelled"),
    [
        (
            "\"we'll keep the cafe\u0301's ledger - never in excel...\"",
            "“We’ll keep the café’s ledger — never in Excel…”**",
        ),
        ("run make ledger; été", "run `make ledger`; ÉTÉ"),
        ("never  in\u00a0Excel", "never in Excel"),
        ("We'll\u200b keep", "We’ll keep"),
    ],
)
def test_typography_decides_nothing_and_the_transcript_spells(quote: str, spelled: str) -> None:
    assert contains(SAID, quote)
    assert spelling(SAID, quote) == spelled


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("we allow 10² rows", "102 rows"),
        ("it takes 1½ hours", "11/2 hours"),
        ("use snake_case", "use snakecase"),
        ("~~drop the table~~", "drop the table~~ now"),
        ("do not use tabs", "do use tabs"),
        ("keep version 2.1", "version 21"),
    ],
)
def test_what_changes_the_sense_is_no_typography(text: str, other: str) -> None:
    assert not contains(text, other)


@pytest.mark.parametrize(
    ("text", "quote", "stands"),
    [
        ("I know that", "no", False),
        ("yesterday it worked", "yes", False),
        ("no, never", "no", True),
        ("yes.", "yes", True),
        ("用户说不要用制表符", "不要", True),
        ("ให้ใช้แท็บเท่านั้น", "ใช้", True),
        ("anything", " ", False),
        ("a - b", "-", False),
    ],
)
def test_a_short_quote_is_whole_words(text: str, quote: str, *, stands: bool) -> None:
    assert contains(text, quote) is stands


@given(st.text(max_size=80), st.text(min_size=1, max_size=40), st.text(max_size=80))
def test_any_passage_of_a_text_is_found_and_spelled_so_that_it_is_found_again(
    before: str, said: str, after: str
) -> None:
    text = f"{before} {said} {after}"
    if not any(char.isalnum() for char in fold(said)):
        return
    for form in (said, unicodedata.normalize("NFC", said), unicodedata.normalize("NFD", said)):
        if contains(text, form):
            found = spelling(text, form)
            assert found
            assert contains(found, form)


def test_a_long_text_is_searched_without_being_folded_for_each_letter() -> None:
    text = "Wörter “und” mehr — Text. " * 8000 + "Der Schluss — gilt."
    assert spelling(text, "der schluss - gilt") == "Der Schluss — gilt"


def turns(*said: tuple[Speaker, str]) -> list[Turn]:
    return [Turn(n, speaker, text, f"{n:016x}") for n, (speaker, text) in enumerate(said)]


def test_the_same_words_twice_are_two_turns_and_the_users_win() -> None:
    talk = turns(
        ("assistant", "yes, do that"), ("user", "yes, do that"), ("user", "Yes — do that."), ("user", "yes, do that")
    )
    found = placed(talk, ["yes, do that", "yes, do that", "yes, do that"])
    assert [turn.n if turn else None for turn in found] == [1, 3, 3]
    assert placed(talk, ["not said"]) == [None]


def test_what_the_user_pasted_comes_behind_what_he_typed() -> None:
    talk = turns(("user", "```\nuse tabs only\n```"), ("user", "use tabs only"))
    assert [turn.n if turn else None for turn in placed(talk, ["use tabs only"])] == [1]


def test_a_call_is_quoted_as_it_is_shown() -> None:
    (call,) = turns(("tool", 'Bash: {"command": "grep -n \\"cart\\" app.py", "timeout": 5}'))
    assert said_in(call, 'Bash: grep -n "cart" app.py')
    assert find_quote([call], 'grep -n "cart"') is call
    assert as_said(call, "bash: grep -n 'cart'") == 'Bash: grep -n "cart"'
