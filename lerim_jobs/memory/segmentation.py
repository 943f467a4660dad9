"""Words of any language: what is compared and what is indexed, with letters folded and texts without spaces cut into grams.

    é, ß, ё                letters in one case and one form, without accents (`folded`, `searchable`)
    数据库, 削除, 데이터       overlapping pairs of characters, because nothing marks where a word ends
    ฐานข้อมูล, ទិន្នន័យ        overlapping groups of three, because a vowel or tone is a character of its own
    الكتاب, كِتَاب            without vowel signs, in one form of each letter, without article and ending

A text of plain ASCII passes through untouched, at no cost.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

__all__ = ["folded", "grams", "searchable", "short", "sought", "spelled", "uncontracted", "unspaced"]

_PAIRED = (
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\u1100-\u11ff\uac00-\ud7a3\U00020000-\U0003ffff"
)
_THREES = "\u0e01-\u0e4e\u0e81-\u0eff\u1000-\u109f\u1780-\u17d3"
_ASCII_WORD = re.compile("[a-z0-9]+")
_PAIR, _TRIPLE = 2, 3
_RUN = re.compile(f"([{_PAIRED}]+)|([{_THREES}]+)")
_CONTRACTED = re.compile(r"['\u2019](?=(?:t|s|re|ve|ll|d|m)\b)", re.IGNORECASE)
_ARABIC = re.compile("[\u0621-\u064a\u0671-\u06d3]+")
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "ё": "е"})
_DIGRAPHS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})
_ARABIC_LETTERS = str.maketrans("أإآٱىةؤئکی", "اااايهويكي")
_ARABIC_STARTS = ("وال", "بال", "كال", "فال", "لل", "ال")
_ARABIC_ENDS = ("ها", "ان", "ات", "ون", "ين", "يه", "ه", "ي")
_FEWEST_LEFT = 3
"""Letters that must be left of an Arabic word without article and ending: its root has three."""


class _Folding(dict[int, str]):
    """What becomes of each character, found out once: letters and digits stay in one form, all else is a gap."""

    def __init__(self, *, accents: bool) -> None:
        super().__init__()
        self._accents = accents

    def __missing__(self, code: int) -> str:
        self[code] = found = self._of(chr(code))
        return found

    def _of(self, char: str) -> str:
        category = unicodedata.category(char)
        if category == "Nd":
            return str(unicodedata.digit(char))
        if category == "Cf":
            return " " if char == "\u200b" else ""
        if category[0] == "M":
            return "" if _is_accent(char) else char
        if category[0] not in "LN" and category != "Co":
            return "" if char == "ـ" else " "
        base = unicodedata.normalize("NFKD", char)
        if char == "ـ":
            return ""
        plain = char if self._accents or not ("a" <= base[0] <= "z" or "\u0370" <= base[0] <= "\u03ff") else base
        plain = "".join(one for one in plain if not unicodedata.combining(one)) if plain is base else plain
        return plain if self._accents else plain.translate(_LETTERS)


_PLAIN, _SPELLED = _Folding(accents=False), _Folding(accents=True)


def folded(text: str) -> str:
    """Letters and digits alone, in one case and form, without accents; a space where anything else stood."""
    return _canonical(text).translate(_PLAIN)


def spelled(text: str) -> str:
    """As `folded`, but with the accents of letters, which tell words apart: `schon` and `schön`."""
    return _canonical(text).translate(_SPELLED)


def uncontracted(text: str) -> str:
    """English contractions as one word, whatever apostrophe they are written with: `don't` as `dont`, but not `l'index`."""
    return _CONTRACTED.sub("", text)


def grams(text: str) -> Iterator[str]:
    """The words of a text that `folded` or `spelled` has passed; where no spaces are written, its overlapping grams."""
    for word in text.split():
        if word.isascii():
            yield word
            continue
        at = 0
        for run in _RUN.finditer(word):
            if before := word[at : run.start()]:
                yield before
            yield from _cut(run[0], _PAIR if run[1] else _TRIPLE)
            at = run.end()
        if after := word[at:]:
            yield after


def unspaced(gram: str) -> bool:
    """Whether it is of a script that writes no spaces between words, or joins what belongs to them."""
    return bool(_RUN.match(gram))


def searchable(text: str) -> str:
    """What the index reads instead of a text: the same for plain ASCII, else its words and grams.

    A run also gives its last characters alone, so that whatever is looked for is the beginning of some gram.
    """
    if text.isascii():
        return text
    canonical = _canonical(text)
    words = canonical.translate(_PLAIN).split()
    return " ".join(form for word in (*words, *_with_digraphs(canonical, words)) for form in _indexed(word))


def sought(query: str) -> list[str]:
    """The words and grams to look for in what `searchable` gave, in order; one that is `short` is only a beginning."""
    if query.isascii():
        return _ASCII_WORD.findall(query.lower())
    return [_arabic(one) for one in grams(_canonical(query).translate(_DIGRAPHS).translate(_PLAIN))]


def short(gram: str) -> bool:
    """Whether it is less than a whole gram of its script: whatever begins with it may be meant."""
    run = _RUN.fullmatch(gram)
    return run is not None and len(gram) < (_PAIR if run[1] else _TRIPLE)


def _canonical(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _is_accent(char: str) -> bool:
    """A mark that readers leave out or that is only a form: accents, vowel signs of Arabic and Hebrew, forms of symbols."""
    return "\u0300" <= char <= "\u036f" or "\u0591" <= char <= "\u06ed" or char >= "\ufe00"


def _cut(run: str, size: int) -> Iterator[str]:
    for at in range(max(1, len(run) - size + 1)):
        yield run[at : at + size]


def _indexed(word: str) -> Iterator[str]:
    if word.isascii():
        yield word
        return
    for gram in grams(word):
        yield _arabic(gram)
    for run in _RUN.finditer(word):
        size = _PAIR if run[1] else _TRIPLE
        if len(run[0]) >= size:
            yield from (run[0][-left:] for left in range(1, size))


def _with_digraphs(canonical: str, words: list[str]) -> list[str]:
    """German words once more as they are written without umlauts: `Schlüssel` as `schluessel`."""
    written = canonical.translate(_DIGRAPHS)
    if written == canonical:
        return []
    there = set(words)
    return [word for word in written.translate(_PLAIN).split() if word not in there]


def _arabic(word: str) -> str:
    """The word without article, joined particles and the commonest endings, in one form of each letter."""
    if not _ARABIC.fullmatch(word):
        return word
    word = word.translate(_ARABIC_LETTERS)
    start = next((one for one in _ARABIC_STARTS if word.startswith(one) and len(word) - len(one) >= _FEWEST_LEFT), "")
    word = word[len(start) :]
    end = next((one for one in _ARABIC_ENDS if word.endswith(one) and len(word) - len(one) >= _FEWEST_LEFT), "")
    return word[: len(word) - len(end)]
