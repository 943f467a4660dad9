"""What is removed, however it is written down, and what must stay."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lerim_jobs.errors import BadInput
from lerim_jobs.log.events import Quote
from lerim_jobs.redaction.needles import of_literals, of_pattern, of_texts
from lerim_jobs.redaction.scrubbing import Scrubber

SECRET = 'the "vault" code is C:\\new\\9 — naïve ☃, 𝄞 and <b>'


def quote(text: str, turn: int = 3) -> Quote:
    return Quote(text, "s1", "session-codex-1", "codex", turn, "user")


def scrubbed(value: Any, *texts: str) -> Any:
    return Scrubber(of_texts(texts, [], "m1")).value(value)


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_text_is_found_in_json_within_json(depth: int, ascii_only: bool) -> None:
    text: Any = f"before {SECRET} after"
    for _ in range(depth):
        text = json.dumps({"args": text}, ensure_ascii=ascii_only)
    after = scrubbed({"content": text}, SECRET)["content"]
    for _ in range(depth):
        after = json.loads(after)["args"]
    assert after == "before [REDACTED] after"
    assert scrubbed(f"Called with {text}!", SECRET).count("[REDACTED]") == 1


def test_white_space_may_differ_also_in_markdown_quotes_and_yaml() -> None:
    said = "we keep the key\nof the vault under 'the' mat"
    for text in (
        "we  keep the\tkey of the vault under 'the' mat",
        "> we keep the key\n> of the vault under 'the' mat",
        json.dumps(json.dumps(said)),
        yaml.safe_dump({"title": said}, width=10_000),
        yaml.safe_dump({"title": " ".join(said.split())}, default_style="'", width=10_000),
    ):
        assert "vault" not in scrubbed(text, said)
    assert (
        scrubbed("we keep the keys of the vault under 'the' mat", said)
        == "we keep the keys of the vault under 'the' mat"
    )


@settings(max_examples=60)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), min_size=20, max_size=60), st.booleans())
def test_any_long_text_is_found_plain_and_escaped(text: str, ascii_only: bool) -> None:
    if len(" ".join(text.split())) < 20:
        return
    once = json.dumps({"a": text}, ensure_ascii=ascii_only)
    twice = json.dumps(once, ensure_ascii=ascii_only)
    for written in (text, f"see {once}", f"see {twice}"):
        assert "[REDACTED]" in scrubbed(written, text)


def test_a_short_text_goes_only_where_it_is_a_whole_value() -> None:
    value = {"title": "Use  tabs", "body": "People use tabs: Use tabs or not.", "args": '{"title": "Use tabs"}'}
    assert scrubbed(value, "Use tabs") == {
        "title": "[REDACTED]",
        "body": "People use tabs: Use tabs or not.",
        "args": '{"title":"[REDACTED]"}',
    }
    assert scrubbed('[[ ## candidates ## ]] [{"title": "Use tabs"}]', "Use tabs").endswith('[{"title": "[REDACTED]"}]')
    assert scrubbed("Go", "Go") == "Go"


def test_sentences_of_a_long_body_go_one_by_one() -> None:
    body = "Carts live in Redis for a fortnight. Orders live in Postgres for ever."
    assert scrubbed("He said: Orders live in Postgres for ever.", body) == "He said: [REDACTED]"


def test_shape_stays_and_hits_in_it_are_counted() -> None:
    scrubber = Scrubber(of_pattern("marker-[0-9]+|title|user"))
    value = {"title": "a marker-7", "speaker": "user", "session_id": "marker-7", "deep": [{"marker-7": 1}], "n": 7}
    assert scrubber.value(value) == {
        "title": "a [REDACTED]",
        "speaker": "user",
        "session_id": "marker-7",
        "deep": [{"[REDACTED]": 1}],
        "n": 7,
    }
    assert (scrubber.hits, scrubber.kept) == (2, 2)


def test_what_a_memory_says_goes_wherever_its_id_stands() -> None:
    assert scrubbed({"memory_id": "m1", "title": "Anything", "kind": "decision", "version": 2}, "x") == {
        "memory_id": "m1",
        "title": "[REDACTED]",
        "kind": "decision",
        "version": 2,
    }


def test_a_pattern_does_not_remove_what_was_removed_before() -> None:
    scrubber = Scrubber(of_pattern("(?i)[a-z]{8}"))
    once = scrubber.text("Password and [REDACTED] and [REDACTED:api-key]")
    assert once == "[REDACTED] and [REDACTED] and [REDACTED:api-key]"
    assert scrubber.text(once) == once
    assert scrubber.hits == 1


def test_what_a_pattern_found_is_found_again_where_it_is_escaped() -> None:
    pattern = of_pattern(r'code "[^"]+" for')
    scrubber = Scrubber(pattern)
    scrubber.text('the code "hunter two" for the door')
    escaped = "log: " + json.dumps(json.dumps('the code "hunter two" for the door'))
    assert Scrubber(pattern).text(escaped) == escaped
    assert "hunter" not in Scrubber(of_literals(pattern, scrubber.removed)).text(escaped)


@pytest.mark.parametrize("pattern", ["(", ".*", "x?", ".", r"\s", "[a-z]"])
def test_patterns_that_would_take_everything_are_refused(pattern: str) -> None:
    with pytest.raises(BadInput):
        of_pattern(pattern)


def test_json_without_a_hit_keeps_its_bytes() -> None:
    data = b'{ "a" :  "nothing here" }'
    assert Scrubber(of_pattern("marker")).json(data) is data
    assert Scrubber(of_texts([SECRET], [quote("short")], "m1")).json(data) is data
    assert Scrubber(of_pattern("marker")).json(b"\xff not json marker") == b"\xff not json [REDACTED]"
    assert msgspec.json.decode(Scrubber(of_pattern("marker")).json(b'{"a": "marker"}')) == {"a": "[REDACTED]"}
