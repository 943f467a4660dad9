"""Comparing words as people and models write them: what typography adds is folded away, what changes the sense stays.

Folded: kinds of quotation marks and dashes, ellipses, blanks of all kinds, characters without width, emphasis and code marks of
markdown, case, and Unicode form. Kept: every letter, digit and sign, so that `10²` is not `102` and `~~no~~` is still struck out.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from functools import lru_cache

__all__ = ["contains", "fold", "spelling"]

_BOUNDED_CHARS = 24
"""A quote up to so long stands for whole words only: `no` is not said in `know`."""
_KEPT_CHARS = 10_000
"""Folded forms of texts up to so long are kept: checks compare each quote with each turn."""
_QUOTES = (*range(0x2018, 0x2020), 0x22, 0xB4, 0xAB, 0xBB, 0x2032, 0x2033, 0x2039, 0x203A, *range(0x300C, 0x3010))
_DASHES = (*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63, 0xFF0D)
_TABLE = {**dict.fromkeys(_QUOTES, "'"), **dict.fromkeys(_DASHES, "-"), ord("`"): None}
_UNEQUAL = re.compile(r"[\u00b2\u00b3\u00b9\u2070-\u209c\u00bc-\u00be\u2150-\u215f]")
"""Small digits and fractions, which a compatible form would join with the digits beside them."""
_WIDTHLESS = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_EMPHASIS = re.compile(r"(?<!\w)[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}(?!\w)")
_BLANK = re.compile(r"\s+")
_AROUND_DASHES = re.compile(r" ?-+ ?")


def fold(text: str) -> str:
    """The text in the form in which it is compared."""
    return _kept(text) if len(text) <= _KEPT_CHARS else _fold(text)


def _fold(text: str) -> str:
    if not text.isascii():
        text = _UNEQUAL.sub(lambda found: f" {found[0]}\x01", _WIDTHLESS.sub("", text))
        text = "".join(part if part[-1:] == "\x01" else unicodedata.normalize("NFKC", part) for part in _parts(text))
    text = _EMPHASIS.sub("", text.translate(_TABLE)).casefold()
    return _AROUND_DASHES.sub("-", _BLANK.sub(" ", text))


_kept = lru_cache(maxsize=1024)(_fold)


def contains(text: str, quote: str) -> bool:
    """Whether the words stand in the text, as whole words where they are few. No words stand nowhere."""
    return _find(fold(text), fold(quote).strip()) is not None


def spelling(text: str, quote: str) -> str | None:
    """The words of the quote as the text spells them, with single blanks; None: they do not stand in it."""
    wanted = fold(quote).strip()
    if _find(fold(text), wanted) is None:
        return None
    text = _near(text, wanted)
    at = _find(_fold(text), wanted) or 0
    start = _reaches(text, at + 1)
    end = _reaches(text, at + len(wanted)) + 1
    while end < len(text) and (unicodedata.combining(text[end]) or text[end] in "*_`"):
        end += 1
    found = " ".join(text[start:end].split())
    return found if contains(found, quote) else quote.strip()


def _near(text: str, wanted: str) -> str:
    """A short part of the text that has the words."""
    room = 3 * len(wanted) + 200
    while len(text) > 4 * room:
        middle = len(text) // 2
        left, right = text[: middle + room], text[middle - room :]
        part = next((one for one in (left, right) if _find(_fold(one), wanted) is not None), None)
        if part is None:
            break
        text = part
    return text


def _reaches(text: str, length: int) -> int:
    """The place of the character with which the folded text reaches a length."""
    return bisect_left(range(len(text)), length, key=lambda n: len(_fold(text[: n + 1]).rstrip()))


def _parts(text: str) -> list[str]:
    return re.split(r"( .\x01)", text)


def _find(folded: str, wanted: str) -> int | None:
    """Where the words stand. A short quote neither begins nor ends within a word of a script with spaces."""
    at = folded.find(wanted) if wanted and any(char.isalnum() for char in wanted) else -1
    while at >= 0:
        end = at + len(wanted)
        if len(wanted) > _BOUNDED_CHARS or not (_joined(folded, at) or _joined(folded, end)):
            return at
        at = folded.find(wanted, at + 1)
    return None


def _joined(text: str, at: int) -> bool:
    """Whether one word goes on across the place, in a script that puts blanks between words."""
    return 0 < at < len(text) and all(char.isalnum() and _spaced(char) for char in text[at - 1 : at + 1])


def _spaced(char: str) -> bool:
    """Not so in Thai, Lao, Khmer and Burmese, and from the Chinese and Japanese signs on."""
    code = ord(char)
    return code < 0x2E80 and not (0x0E00 <= code < 0x0F00 or 0x1000 <= code < 0x10A0 or 0x1780 <= code < 0x1800)
