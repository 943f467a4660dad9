"""What turns a statement around or makes it another one: negations with what they deny, and numbers, in eight languages.

Two texts that differ in one of these are two facts, however alike they are. No list of markers is complete; where this one errs,
two memories are kept instead of one, and the clean-up may still put them together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lerim_jobs.memory.segmentation import grams, spelled, uncontracted

__all__ = ["telling"]

_NEGATIONS = frozenset(
    """no not never without dont doesnt didnt isnt arent wasnt werent cant cannot wont wouldnt couldnt shouldnt mustnt hasnt
    havent nor neither instead stop avoid
    nicht nie niemals kein keine keinen keiner keinem keines ohne weder statt anstatt nirgends keinesfalls vermeiden
    ne n pas jamais sans aucun aucune rien ni non éviter nulle
    не ни нет без нельзя никогда вместо запрещено кроме избегать
    لا لم لن ليس ليست بدون دون غير عدم أبدا ممنوع بدلا ولا فلا ولم ولن وليس تجنب
    안""".split()
)
_NUMBERS = frozenset(
    """two three four five six seven eight nine ten eleven twelve twenty thirty fifty hundred thousand million half twice double
    zwei drei vier fünf sechs sieben acht neun zehn elf zwölf zwanzig dreissig fünfzig hundert tausend halb zweimal doppelt
    deux trois quatre cinq sept huit neuf dix onze douze vingt trente cinquante cent mille demi
    два две три четыре пять шесть семь восемь девять десять двадцать тридцать сто тысяча пол
    اثنان اثنين ثلاثة ثلاث أربعة أربع خمسة خمس ستة ست سبعة سبع ثمانية ثماني تسعة تسع عشرة عشر عشرون مئة مائة ألف نصف
    두 둘 세 셋 네 넷 다섯 여섯 일곱 여덟 아홉 열""".split()
)
_BEFORE = "[不没沒无無非未勿别別莫否禁]|ไม่|อย่า|ห้าม|ไร้|งด|เลิก|แทน"
"""Negations that stand before what they deny."""
_AFTER = "ない|なし|なく|なかっ|なけれ|ませ|まい|[ぬず]|やめ|避け|않|못|없|아니|아닌|말(?=고|것|아|자|라)|금지|대신"
"""Negations that stand behind it."""
_COUNTED = "[二三四五六七八九十百千万萬亿億两兩〇零半]|สอง|สาม|สี่|ห้า|หก|เจ็ด|แปด|เก้า|สิบ|ร้อย|พัน|หมื่น|แสน|ล้าน"
_UNSPACED = re.compile(f"(?P<before>{_BEFORE})|(?P<after>{_AFTER})|(?P<counted>{_COUNTED})")
_NEAR, _UNIT = 4, 2
"""Characters that are kept of what is denied, and of what is counted."""


def telling(text: str) -> frozenset[str]:
    """The text's negations, each with a few letters of what it denies, and its numbers, each with its unit where they touch."""
    plain = spelled(uncontracted(text))
    return frozenset(
        (*_of_words(list(grams(plain))), *_of_characters("".join(plain.split()) if not plain.isascii() else ""))
    )


def _of_words(words: list[str]) -> Iterator[str]:
    for word, following in zip(words, [*words, ""][1:], strict=True):
        if word in _NEGATIONS:
            yield f"{word} {following}"
        elif word in _NUMBERS or any(char.isdigit() for char in word):
            yield word


def _of_characters(plain: str) -> Iterator[str]:
    for found in _UNSPACED.finditer(plain):
        start, end = found.span()
        if found["after"]:
            yield plain[max(0, start - _NEAR) : end]
        else:
            yield plain[start : end + (_NEAR if found["before"] else _UNIT)]
