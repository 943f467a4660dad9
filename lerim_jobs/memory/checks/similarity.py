"""When two texts say the same, and how much of a text stands in others: by words alone, no model, in any language.

Where no spaces are written between words, overlapping groups of two or three characters stand for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lerim_jobs.memory.checks.telling import telling
from lerim_jobs.memory.segmentation import grams, sought, spelled, uncontracted, unspaced

__all__ = ["Said", "covered", "overlap", "same_fact", "stems", "words"]

_SAME, _SAME_UNDER_ONE_TITLE = 0.85, 0.5
_SMALL = frozenset(
    """the and for that this with from into are was were will have has but you our all its they them then than there
    their which when what who how can could should would may must use used uses using
    only just also very more most some any each such still even both here says said
    der die das den dem des und oder ein eine einen einem einer ist sind wird werden war mit von fuer auf aus bei nach wie als
    auch wir sie sich nur noch zum zur beim dass
    les des une est sont dans pour par sur avec que qui nous vous elle ils aux ses leur mais plus comme cette ces
    это как для что при или его она они был быть также так все уже мы вы на по из от до за
    في من على إلى الى عن مع هذا هذه التي الذي كان ان هو هي ثم قد كل""".split()
)
_STEM_CHARS = 5
_KANA = re.compile("[\u3041-\u309f]+")
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]{2}")


def words(text: str) -> frozenset[str]:
    """The words of a text without case, forms of letters or punctuation; accents stay."""
    return frozenset(grams(spelled(uncontracted(text))))


def stems(text: str) -> frozenset[str]:
    """The beginnings of the words that carry meaning: `decided` and `decides` are one."""
    found = (word for word in sought(uncontracted(text)) if word not in _SMALL)
    return frozenset(filter(None, map(_stem, found)))


def _stem(word: str) -> str:
    """Empty where a word is too short to mean much: a letter or two, the endings that Japanese writes in kana."""
    if unspaced(word):
        return "" if _KANA.fullmatch(word) else word
    return word[:_STEM_CHARS] if len(word) > 2 or word.isdigit() else ""


def overlap(one: Iterable[str], other: Iterable[str]) -> float:
    """Shared words over all words, 0 to 1; 0 for no words."""
    mine, theirs = frozenset(one), frozenset(other)
    return len(mine & theirs) / len(mine | theirs) if mine and theirs else 0.0


def covered(text: str, heard: Iterable[str]) -> float:
    """Which share of the text's meaning words is among these stems; 1 for a text without any.

    A pair of Chinese characters of which each was heard, though not together, counts half: words of one character meet anew.
    """
    wanted, known = stems(text), frozenset(heard)
    missing = [pair for pair in wanted - known if _HAN.fullmatch(pair)]
    characters = {char for stem in known for char in stem} if missing else set()
    found = len(wanted & known) + sum(0.5 for pair in missing if characters.issuperset(pair))
    return found / len(wanted) if wanted else 1.0


class Said:
    """A title and a body as sets of words, made once and compared often."""

    __slots__ = ("body", "meaning", "telling", "title", "whole")

    def __init__(self, title: str, body: str) -> None:
        self.title, self.body = words(title), words(body)
        self.whole = self.title | self.body
        self.meaning = stems(f"{title} {body}")
        self.telling = telling(f"{title}\n{body}")


def same_fact(one: Said, other: Said) -> bool:
    """The same words but for a few that one of them has more, or one title over bodies that share half of their words.

    A word in the place of another one is another fact (`Redis` for `Memcached`), and so is a changed number or negation.
    """
    few, many = sorted((len(one.whole), len(other.whole)))
    near = few >= _SAME * many and overlap(one.whole, other.whole) >= _SAME
    titled = one.title == other.title and overlap(one.body, other.body) >= _SAME_UNDER_ONE_TITLE
    if not (near or titled) or one.telling != other.telling:
        return False
    return titled or one.meaning <= other.meaning or other.meaning <= one.meaning
