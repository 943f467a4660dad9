"""How a question becomes a query, and how matches are ranked: BM25 over weighted columns, at a bounded cost.

FTS5 finds rows in microseconds but needs most of a microsecond to rank each with its own bm25(), and counts every word's
rows again to do so. At 100,000 memories a common word would cost 50 ms. So the number of ranked rows is bounded: a question
whose words are in too many memories is narrowed to those with a rare word, or with several of the common ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import apsw
import msgspec

from lerim_jobs.memory.segmentation import short, sought

__all__ = ["COLUMNS", "MOST_RANKED", "MOST_WORDS", "Scorer", "Tier", "Word", "everything", "rarity", "tiers", "words"]

COLUMNS = {"title": 4.0, "tags": 2.0, "body": 2.0, "quotes": 1.5, "context": 0.5, "scope": 0.0}
"""Indexed columns and what a word found in each counts. `scope` only narrows."""

MOST_WORDS = 40
"""Words by which one question ranks."""
MOST_RANKED = 1000
"""Rows that are ranked for one question; of more than that, the newest."""

_K1 = 1.2
_MAX_COMMON = 4
_STOP = frozenset(
    """a an and are as at be but by can do does did for from had has have how i if in into is it its me my no not of on or
    our should so that the their them then there these they this to us was we were what when where which who why will with
    would you your about say said know use""".split()
)


class Word(msgspec.Struct, frozen=True):
    """A searchable word, the number of rows it is in, and what is left of it when stemmed.

    One that stands for another word of the question counts by its `weight`, and is no rarer than that one (`like_rows`, 0
    where that is in no row).
    """

    text: str
    rows: int
    weight: float = 1.0
    stems: tuple[str, ...] = ()
    like_rows: int = 0

    @property
    def quoted(self) -> str:
        """The word as FTS5 takes it: a string, never syntax."""
        return f'"{self.text}"{"*" if short(self.text) else ""}'


class Tier(msgspec.Struct, frozen=True):
    """An expression and how many rows it may match, by the words' counts as if they fell independently."""

    expression: str
    expected: float


def words(query: str, *, most: int = MOST_WORDS) -> list[str]:
    """The searchable words of a query, in order, each once; at most 40, or as many as given."""
    found = dict.fromkeys(word for word in sought(query) if word not in _STOP)
    return list(found)[:most]


def everything(wanted: Sequence[Word]) -> str:
    """Any of the words."""
    return " OR ".join(word.quoted for word in wanted)


def tiers(wanted: Sequence[Word], *, rows: int, share: float) -> list[Tier]:
    """From the widest to the narrowest: any word; then a rare word or two, three, … of the common ones; then a rare word.

    `rows` are all there are, `share` is the part of them that is searched.
    """
    rare: list[Word] = []
    common = sorted(wanted, key=lambda word: (word.rows, word.text))
    while common and sum(word.rows for word in (*rare, common[0])) * share <= MOST_RANKED / 2:
        rare.append(common.pop(0))
    sure = share * sum(word.rows for word in rare)
    found = [Tier(everything(wanted), share * sum(word.rows for word in wanted))]
    common = common[:_MAX_COMMON]
    for size in range(2, len(common) + 1):
        groups = list(combinations(common, size))
        expected = share * sum(rows * math.prod(word.rows / rows for word in group) for group in groups)
        each = (" AND ".join(word.quoted for word in group) for group in groups)
        parts = (*(word.quoted for word in rare), *(f"({group})" for group in each))
        found.append(Tier(" OR ".join(parts), sure + expected))
    return [*found, Tier(everything(rare), sure)] if rare and common else found


class Scorer:
    """The ranking function that FTS5 calls for each row: BM25 without a length norm, which memories are too alike to need.

    It runs a thousand times a question, so it asks FTS5 for one thing a word: the columns the word is in.
    """

    def __init__(self) -> None:
        self._wanted: Sequence[Word] = ()
        self._rarities: list[float] = []
        self._counts: dict[tuple[int, ...], float] = {(): 0.0}
        self._weights = tuple(COLUMNS.values())

    def rank_by(self, wanted: Sequence[Word]) -> None:
        """Rank the next query's rows by these words, which must be its last phrases."""
        self._wanted, self._rarities = wanted, []

    def __call__(self, api: apsw.FTS5ExtensionApi, *_: object) -> float:
        """A higher score is a better one."""
        if not self._rarities:
            self._rarities = [
                word.weight * rarity(max(word.rows, word.like_rows), api.row_count) for word in self._wanted
            ]
        score = 0.0
        counts, columns_of = self._counts, api.phrase_columns
        for phrase, worth in enumerate(self._rarities, api.phrase_count - len(self._rarities)):
            columns = columns_of(phrase)
            if columns:
                score += worth * (counts.get(columns) or self._count(columns))
        return score

    def _count(self, columns: tuple[int, ...]) -> float:
        """What a word counts that is found in these columns: more in the better ones, ever less for each further one."""
        found = sum(self._weights[column] for column in columns)
        self._counts[columns] = counted = found * (_K1 + 1) / (found + _K1)
        return counted


def rarity(word_rows: int, rows: int) -> float:
    """What a word is worth that is in so many of the rows: the fewer, the more."""
    return math.log(1 + max(0.0, rows - word_rows + 0.5) / (word_rows + 0.5))
