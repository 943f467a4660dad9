"""The quick looks that decide whether a kind of secret is searched for: they may only save time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lerim_jobs.sessions.secret_shapes import SHAPES
from lerim_jobs.sessions.secrets import _replaced, plain, redact, redact_all

NAMES = "key Token SECRET password passwd passphrase credentials bearer Authorization x-api-key cookie".split()
PARTS = (
    "user --user --token -u https :// @ example.org AC SK sk- ghp_ eyJ hooks.slack.com /services/ /webhooks/".split()
)
SIGNS = ["key-", "sig=", ":", "=", "'", '"', '\\"', "/", ".", "-"]
VALUES = [
    "a1B2c3D4e5F6a7B8",
    "0123456789abcdef" * 2,
    "Zz9" * 10,
    "-----BEGIN RSA PRIVATE KEY-----",
    "x" * 24,
    "stra\u00dfe",
    "\u0130K",
]
PIECES = st.sampled_from([*NAMES, *PARTS, *SIGNS, *VALUES, " ", "  ", "\n", "\t", "\u3000"])
TEXTS = st.lists(PIECES, max_size=12).map("".join)


def searched(text: str) -> str:
    """With every shape searched for."""
    for shape in SHAPES:
        text = _replaced(text, shape)[0]
    return text


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=4))
def test_what_is_looked_for_first_hides_no_secret(texts: list[str]) -> None:
    expected = [searched(plain(text)) for text in texts]
    assert [redact(plain(text))[0] for text in texts] == expected
    assert redact_all(texts)[0] == expected
