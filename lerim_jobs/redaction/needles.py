"""What to remove: texts of a memory, or what a pattern matches, found plain and JSON-escaped at any depth.

A text is found with any white space between its words, because quotes are. Long texts (20 characters or more) are removed
wherever they stand. Short ones ("yes, do that") stand in much that has nothing to do with the memory: they are removed only
where they are the whole of a value, such as a candidate's title, and in the turn of the session that they were quoted from.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from lerim_jobs.errors import BadInput
from lerim_jobs.log.events import Quote
from lerim_jobs.memory.memory import REDACTED

__all__ = ["LONG", "Needles", "in_turn", "of_literals", "of_pattern", "of_texts", "squeeze"]

LONG = 20
"""Characters from which a text is removed wherever it stands."""

_SHORTEST = 4
_LITERAL = 8
_MAX_LITERALS = 500
_DONE = r"\[REDACTED(?::[a-z-]{1,20})?\]"
# White space as it stands in texts, in JSON (escaped once or more), and in markdown quotes.
_SPACE = r"(?:\s|\\+[nrtfv]|\\+u00(?:0[9a-dA-D]|[aA]0)|(?<=\n)>)+"
# What may be written down in more than one way.
_VARIES = re.compile(r"[^!#-&(-\[\]-~]")
_TOKEN = re.compile(r"[A-Za-z0-9]+")
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n+")
_FLAGS = re.compile(r"^\(\?([aiLmsux]+)\)")


@dataclass(frozen=True, slots=True)
class Needles:
    """`literals` within any text, `quoted` as the whole of a JSON string within any text, `whole` (squeezed) as a whole value.

    `tokens` are parts of them that no escaping changes: a text without any of these holds none of them.
    """

    tokens: frozenset[str] = frozenset()
    literals: re.Pattern[str] | None = None
    quoted: re.Pattern[str] | None = None
    pattern: re.Pattern[str] | None = None
    whole: frozenset[str] = frozenset()
    quotes: tuple[Quote, ...] = ()
    memory_id: str | None = None

    def touches(self, raw: str) -> bool:
        """Whether JSON text may hold something to remove: cheap, and never wrong when it says no."""
        if self.pattern or (self.memory_id and self.memory_id in raw):
            return True
        return self._known_in(raw)

    def sub(self, text: str) -> tuple[str, list[str]]:
        """The text without them, and what was removed."""
        removed: list[str] = []
        if self.tokens and self._known_in(text):
            if self.literals:
                text = self.literals.sub(lambda match: _put(match, removed), text)
            if self.quoted:
                removed += [match.group() for match in self.quoted.finditer(text)]
                text = self.quoted.sub(rf"\g<1>{REDACTED}\g<2>", text)
        if self.pattern:
            text = self.pattern.sub(lambda match: _put(match, removed), text)
        if self.whole and squeeze(text) in self.whole:
            removed.append(text)
            text = REDACTED
        return text, removed

    def _known_in(self, text: str) -> bool:
        return any(token in text for token in self.tokens)


def of_texts(texts: Iterable[str], quotes: Iterable[Quote], memory_id: str) -> Needles:
    """Everything a memory ever said: its titles, bodies and quotes, whole and in sentences."""
    quotes = tuple(quotes)
    said = {squeeze(text) for text in (*texts, *(quote.text for quote in quotes))} - {"", REDACTED}
    long = {piece for text in said for piece in (text, *_pieces(text)) if len(piece) >= LONG}
    short = {text for text in said if _SHORTEST <= len(text) < LONG}
    short_quotes = tuple(quote for quote in quotes if 0 < len(squeeze(quote.text)) < LONG)
    return Needles(
        tokens=frozenset(map(_token, (*long, *short))),
        literals=_any_of(long),
        quoted=re.compile(rf'(\\*")\s*(?:{_alternatives(short)})\s*(\\*")') if short else None,
        whole=frozenset(short),
        quotes=short_quotes,
        memory_id=memory_id,
    )


def of_pattern(pattern: str) -> Needles:
    """Everything a regular expression matches. Raises BadInput."""
    given = _FLAGS.match(pattern)
    flags = re.NOFLAG
    for letter in given[1] if given else "":
        flags |= re.RegexFlag[letter.upper()]
    try:
        alone = re.compile(pattern)
        # What an earlier redaction put there is passed over whole, so that nothing is removed twice.
        regex = re.compile(f"{_DONE}|(?:{pattern[given.end() :] if given else pattern})", flags)
    except (re.error, KeyError) as exc:
        raise BadInput(f"this is not a regular expression: {exc}") from None
    if alone.search("") or any(alone.fullmatch(char) for char in "\n e0"):
        raise BadInput("this pattern matches the empty text or single characters: it would remove everything")
    return Needles(pattern=regex)


def of_literals(needles: Needles, literals: Iterable[str]) -> Needles:
    """The pattern and, wherever they stand otherwise escaped, the texts that it matched."""
    found = {one.strip() for one in literals if len(one.strip()) >= _LITERAL and _VARIES.search(one.strip())}
    kept = _longest_first(found)[:_MAX_LITERALS]
    return Needles(tokens=frozenset(map(_token, kept)), literals=_any_of(kept), pattern=needles.pattern)


def squeeze(text: str) -> str:
    """One space for any white space."""
    return " ".join(text.split())


def in_turn(text: str, quote: Quote) -> tuple[str, int]:
    """The text of a turn without a quote, however short."""
    return re.subn(_literal(quote.text), REDACTED, text)


def _put(match: re.Match[str], removed: list[str]) -> str:
    text = match.group()
    if not text or re.fullmatch(_DONE, text):
        return text
    removed.append(text)
    return REDACTED


def _pieces(text: str) -> Iterator[str]:
    return (piece.strip() for piece in _SENTENCE.split(text))


def _any_of(texts: Iterable[str]) -> re.Pattern[str] | None:
    return re.compile(found) if (found := _alternatives(texts)) else None


def _alternatives(texts: Iterable[str]) -> str:
    return "|".join(map(_literal, _longest_first(texts)))


def _longest_first(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=lambda one: (-len(one), one))


def _literal(text: str) -> str:
    words = text.split()
    return _SPACE.join("".join(map(_char, word)) for word in words)


def _char(char: str) -> str:
    """A regex for one character, plain or in any number of layers of JSON."""
    if char.isascii() and char.isalnum():
        return char
    if char == "\\":
        return r"(?:\\)+"
    if char == "'":
        return r"(?:''?|\\+u0027)"  # doubled in YAML
    units = char.encode("utf-16-be", "surrogatepass").hex()
    escaped = "".join(rf"\\+u{units[i : i + 4]}" for i in range(0, len(units), 4))
    slashes = r"\\*" if char in '"/' else ""
    return rf"(?:{slashes}{re.escape(char)}|(?i:{escaped}))"


def _token(text: str) -> str:
    return max(_TOKEN.findall(text), key=len, default="")
