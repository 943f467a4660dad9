"""The words of the index: which of a question's are in it, in how many memories, and which others are of their kin.

Kin are words that begin alike: `formatter` and `formats`, `базу` and `база`, `Datenbank` and `Datenbankverbindung`. Stemming
finds what grammar tells of English; kin find the rest, in any script that has letters, and count less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import apsw

from lerim_jobs.memory.checks.similarity import stems
from lerim_jobs.memory.search import index_file
from lerim_jobs.memory.search.ranking import MOST_WORDS, Word, rarity, words
from lerim_jobs.memory.segmentation import short, unspaced

__all__ = ["MOST_KIN_ROWS", "Vocabulary", "kinship"]

MOST_KIN_ROWS = 200
"""Rows that are ranked for the kin of one question's words: those of rare words help, those of common ones only cost."""
_COMMON = 500
"""Rows from which on a word is common: counting them takes a while, so it is done ahead."""
_MOST_READ = 160
_MOST_KIN, _MOST_ALIKE = 12, 1000
_BEGIN_ASCII, _BEGIN_OTHER = 4, 3
_LONGEST = 30
_COMPOUND, _PART = 9, 5
_KIN_WEIGHT = 0.5
_FEW = 100


class Vocabulary:
    """What the tables of one index say of words; of common ones as they were when `recount` last counted them."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._stem = db.fts5_tokenizer("porter", index_file.TOKENIZER_ARGUMENTS)

    def words(self, query: str) -> list[Word]:
        """The query's words that are in the index at all, the rarest of very many; those with one stem count once."""
        found: dict[tuple[str, ...], Word] = {}
        for word in self._asked(query):
            if word.rows:
                found.setdefault(word.stems, word)
        rarest = sorted(found.values(), key=lambda word: word.rows)[:MOST_WORDS]
        return [word for word in found.values() if len(found) <= MOST_WORDS or word in rarest]

    def kin(self, query: str, *, share: float) -> list[Word]:
        """The closest kin of the query's words, in no more than about MOST_KIN_ROWS rows of the searched `share` of all."""
        asked = self._asked(query)
        own = {stem for word in asked for stem in word.stems}
        closest: dict[str, Word] = {}
        for word in asked:
            for found in self._kin_of(word):
                if found.text not in own and found.weight > getattr(closest.get(found.text), "weight", 0):
                    closest[found.text] = found
        room = MOST_KIN_ROWS / max(share, 1e-9)
        kept: list[Word] = []
        for found in sorted(closest.values(), key=lambda one: (-one.weight, one.rows, one.text)):
            if found.rows <= room and len(kept) < _MOST_KIN:
                room -= found.rows
                kept.append(found)
        return kept

    def weights(self, text: str, *, rows: int) -> dict[str, float]:
        """The text's meaning words, stemmed, each with its rarity among `rows` rows; a small index is no measure of that."""
        told = (self._word(one) for one in words(text, most=_MOST_READ) if stems(one))
        return {stem: rarity(word.rows, max(rows, _FEW)) for word in told for stem in word.stems}

    def rows_with(self, token: str) -> int:
        """How many rows a stemmed word is in."""
        for (rows,) in self._db.execute("SELECT rows FROM counted WHERE term = ? AND rows >= ?", (token, _COMMON)):
            return int(rows)
        return next((int(rows) for (rows,) in self._db.execute("SELECT doc FROM terms WHERE term = ?", (token,))), 0)

    def recount(self, rows: int) -> None:
        """Count the words of `rows` rows. Inside a transaction."""
        self._db.execute("DELETE FROM counted")
        kept = f"doc >= {_COMMON} OR (length(term) BETWEEN {_BEGIN_OTHER} AND {_LONGEST} AND term NOT GLOB '*[0-9]*')"
        self._db.execute(f"INSERT INTO counted SELECT term, doc FROM terms WHERE {kept}")
        self._db.execute("UPDATE about SET counted_rows = ?", (rows,))

    def outgrown(self, rows: int) -> bool:
        """Whether the words should be counted again: there are many rows, a tenth more than last time."""
        return rows >= _COMMON and rows > self._counted_rows() * 1.1

    def _counted_rows(self) -> int:
        return int(next(self._db.execute("SELECT counted_rows FROM about"))[0])

    def _asked(self, query: str) -> list[Word]:
        return [self._word(text) for text in words(query, most=_MOST_READ)]

    def _word(self, text: str) -> Word:
        found = self._stem(text.encode(), apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False)
        stemmed = tuple(str(one[0]) for one in found)
        if short(text):
            return Word(text, min(_COMMON, sum(rows for _, rows in self._beginning(text))), stems=stemmed)
        return Word(text, min(map(self.rows_with, stemmed), default=0), stems=stemmed)

    def _kin_of(self, word: Word) -> Iterator[Word]:
        if len(word.stems) != 1 or unspaced(word.text) or any(char.isdigit() for char in word.text):
            return
        (stem,) = word.stems
        begin = stem[: _BEGIN_ASCII if stem.isascii() else _BEGIN_OTHER]
        for term, rows in self._beginning(begin) if len(stem) >= len(begin) >= _BEGIN_OTHER else ():
            if term != stem and (close := kinship(stem, term)):
                yield Word(term, rows, weight=_KIN_WEIGHT * close, stems=(term,), like_rows=word.rows)
        if not word.rows and len(word.text) >= _COMPOUND:
            for at in range(_PART, len(word.text) - _PART + 1):
                part = self._word(word.text[at:])
                if part.rows and len(part.stems) == 1:
                    weight = _KIN_WEIGHT * (len(word.text) - at) / len(word.text)
                    yield Word(part.stems[0], part.rows, weight=weight, stems=part.stems)
                    return

    def _beginning(self, start: str) -> Sequence[tuple[str, int]]:
        """Words that begin so, and their rows; in a large index as they were when counted."""
        table, column = ("counted", "rows") if self._counted_rows() else ("terms", "doc")
        sql = f"SELECT term, {column} FROM {table} WHERE term >= ? AND term < ? LIMIT {_MOST_ALIKE}"
        return [(str(term), int(rows)) for term, rows in self._db.execute(sql, (start, f"{start}\U0010ffff"))]


def kinship(one: str, other: str) -> float:
    """How near two stemmed words are by their beginnings: the shared share of the longer one, 0 where that is chance.

    One begins the other, or both differ in a short ending; endings of other scripts are not stemmed, so those may be longer.
    """
    few, many = sorted((len(one), len(other)))
    shared = next((n for n in range(few) if one[n] != other[n]), few)
    begin, ending = (_BEGIN_ASCII, 1) if one.isascii() and other.isascii() else (_BEGIN_OTHER, 3)
    if shared < begin or (shared < few and (many - shared > ending or 2 * shared < many)):
        return 0.0
    return shared / many
