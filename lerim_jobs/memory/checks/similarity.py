"""When two texts say the same, and how much of a text stands in others: by words alone, no model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

__all__ = ["Said", "covered", "overlap", "same_fact", "stems", "words"]

_WORD = re.compile(r"\w+")
_SAME, _SAME_UNDER_ONE_TITLE = 0.85, 0.5
_TELLING = frozenset("no not never without dont doesnt isnt cant wont shouldnt mustnt nor neither instead stop".split())
"""Words that turn a statement around: texts that differ in one of these, or in a number, are two facts."""
_SMALL = frozenset(
    """the and for that this with from into are was were will have has but you our all its they them then than there
    their which when what who how can could should would may must use used uses using""".split()
)
_STEM_CHARS = 5
_APOSTROPHES = {0x27: None, 0x2019: None}


def words(text: str) -> frozenset[str]:
    """The words of a text without case, accents of form or punctuation."""
    return frozenset(_WORD.findall(unicodedata.normalize("NFKC", text).casefold().translate(_APOSTROPHES)))


def stems(text: str) -> frozenset[str]:
    """The beginnings of the words that carry meaning: `decided` and `decides` are one."""
    return frozenset(
        word[:_STEM_CHARS] for word in words(text) if word not in _SMALL and (len(word) > 2 or word.isdigit())
    )


def overlap(one: Iterable[str], other: Iterable[str]) -> float:
    """Shared words over all words, 0 to 1; 0 for no words."""
    mine, theirs = frozenset(one), frozenset(other)
    return len(mine & theirs) / len(mine | theirs) if mine and theirs else 0.0


def covered(text: str, heard: Iterable[str]) -> float:
    """Which share of the text's meaning words is among these stems; 1 for a text without any."""
    wanted = stems(text)
    return len(wanted & frozenset(heard)) / len(wanted) if wanted else 1.0


class Said:
    """A title and a body as sets of words, made once and compared often."""

    __slots__ = ("body", "meaning", "title", "whole")

    def __init__(self, title: str, body: str) -> None:
        self.title, self.body = words(title), words(body)
        self.whole = self.title | self.body
        self.meaning = stems(f"{title} {body}")


def same_fact(one: Said, other: Said) -> bool:
    """The same words but for a few that one of them has more, or one title over bodies that share half of their words.

    A word in the place of another one is another fact (`Redis` for `Memcached`), and so is a changed number or negation.
    """
    few, many = sorted((len(one.whole), len(other.whole)))
    near = few >= _SAME * many and overlap(one.whole, other.whole) >= _SAME
    titled = one.title == other.title and overlap(one.body, other.body) >= _SAME_UNDER_ONE_TITLE
    if not (near or titled) or any(word.isdigit() or word in _TELLING for word in one.whole ^ other.whole):
        return False
    return titled or one.meaning <= other.meaning or other.meaning <= one.meaning
