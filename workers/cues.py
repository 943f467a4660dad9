"""Plain English cues: which sentence of a user states a decision, a preference, a fix, a pitfall or something to remember.

Conservative on purpose: it misses most of what a model would find, and what it finds the user said in so many words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lerim_jobs.memory.proposals import Candidate, CandidateKind
from lerim_jobs.sessions.speech import own_words

__all__ = ["candidates", "completes", "corrects", "similarity", "user_sentences"]

_CUES: list[tuple[CandidateKind, float, str]] = [
    ("preference", 0.6, r"\b(?:i|we) (?:would )?(?:rather )?prefer\b|\bplease (?:always|never)\b"),
    ("preference", 0.55, r"^(?:and |but |so |also )?(?:always|never|don'?t ever)\b|\bfrom now on\b"),
    ("preference", 0.55, r"\b(?:we|you|i) (?:should |must )?(?:always|never) \w+"),
    ("decision", 0.6, r"\bwe(?:'ve| have)? (?:decided|agreed|settled on)\b|\bi(?:'ve| have)? decided\b|^decision:"),
    ("decision", 0.6, r"\blet'?s (?:use|go with|switch to|stick with|keep|drop)\b"),
    ("decision", 0.55, r"\bwe(?:'ll| will) (?:use|go with|stick with|keep|switch to|drop)\b"),
    ("decision", 0.5, r"\b(?:use|using|keep|take) .{3,80}\binstead of\b"),
    ("procedure", 0.55, r"\bthe fix (?:was|is)\b|\b(?:i|we) fixed (?:it|this|that) by\b|\bthe way to \w+ .{3,80} is\b"),
    ("pitfall", 0.55, r"\b(?:root )?(?:cause|problem|bug|issue) (?:was|turned out to be)\b|\bturn(?:s|ed) out\b"),
    ("pitfall", 0.5, r"\b(?:be careful|watch out|beware)\b"),
    ("friction", 0.5, r"\b(?:wasted|lost|cost (?:us|me)) .{0,30}\b(?:hours?|days?|time)\b"),
    ("insight", 0.5, r"\b(?:keep in mind|note that|remember that|for the record)\b|^(?:learning|lesson):"),
]
_COMPILED = [(kind, confidence, re.compile(cue, re.IGNORECASE)) for kind, confidence, cue in _CUES]
_NO_WORD_OF_ITS_OWN = re.compile(
    r"\b(?:maybe|perhaps|might|let me think|not sure|what if|should never have)\b"  # undecided, or a complaint
    r"|\blet'?s keep (?:going|at it|it up)\b"
    r"|\b(?:here|in this (?:file|function|branch|case)|line \d+)\b",  # about one place, of no use later
    re.IGNORECASE,
)
_QUOTED = re.compile(r'["“][^"”]*["”]')
_LABEL = re.compile(r"(User|Assistant|Tool): ")
_TURN = re.compile(r"^(?=(?:User|Assistant|Tool): )", re.MULTILINE)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")
_LEAD_IN = re.compile(r"^(?:ok(?:ay)?|yes|no|right|good|great|so|and|but|also|well|hm+)\b[,:.\s]*", re.IGNORECASE)
_WORD = re.compile(r"[a-z0-9]{3,}")
_SMALL = frozenset(
    """the and for that this with from into are was were will have has not but you our all its they""".split()
)
_MIN_CHARS, _MAX_CHARS = 18, 320
_RELATED, _ABOUT_THE_SAME = 0.5, 0.3
_TAKES_BACK = re.compile(
    r"\b(?:instead|no longer|not .{1,40} any ?more|switch(?:ed|ing)?|changed? (?:it|that|this|my mind|to)|replaced?|actually)\b"
    r"|^\W*no\b",
    re.IGNORECASE,
)
_SPELLED = frozenset(
    """two three four five six seven eight nine ten eleven twelve fourteen fifteen twenty thirty forty fifty sixty ninety
    hundred thousand""".split()
)


def candidates(transcript: str) -> list[Candidate]:
    """What the user plainly said, in transcript order, each sentence at most once."""
    found: dict[str, Candidate] = {}
    for sentence in user_sentences(transcript):
        if candidate := _candidate(sentence):
            found.setdefault(sentence.casefold(), candidate)
    return list(found.values())


def user_sentences(transcript: str) -> Iterator[str]:
    """Sentences the user typed himself in a rendered transcript; what was pasted is left out."""
    for turn in _TURN.split(transcript):
        label = _LABEL.match(turn)
        if label and label[1] == "User":
            for line in own_words(turn[label.end() :]).splitlines():
                yield from (part.strip(" -*\t\x00") for part in _SENTENCE_END.split(line))


def similarity(one: str, other: str) -> float:
    """Shared words over all words, 0 to 1; small words do not count."""
    mine, theirs = _words(one), _words(other)
    return len(mine & theirs) / len(mine | theirs) if mine and theirs else 0.0


def corrects(later: str, earlier: str) -> bool:
    """Whether a later statement plainly takes an earlier one back: the same words but for a number, or a word such as
    `instead`, `no longer` or `switch` and a good part of the earlier one's words.
    """
    new, old = _words(later), _words(earlier)
    shared = len(new & old) / len(old) if old else 0.0
    if shared >= _RELATED and _numbers(later) and _numbers(earlier) and _numbers(later) != _numbers(earlier):
        return new ^ old <= _numbers(later) | _numbers(earlier)
    return shared >= _ABOUT_THE_SAME and bool(_TAKES_BACK.search(later)) and not new <= old


def completes(later: str, earlier: str) -> bool:
    """Whether the later statement says all the earlier one does, and more."""
    new, old = _words(later), _words(earlier)
    return bool(old) and old < new


def _numbers(text: str) -> set[str]:
    return {word for word in _words(text) if any(c.isdigit() for c in word) or word in _SPELLED} | set(
        re.findall(r"\d+", text)
    )


def _candidate(sentence: str) -> Candidate | None:
    if not _MIN_CHARS <= len(sentence) <= _MAX_CHARS or sentence.endswith("?"):
        return None
    said = _QUOTED.sub("", sentence)
    if _NO_WORD_OF_ITS_OWN.search(said):
        return None
    for kind, confidence, cue in _COMPILED:
        if cue.search(said):
            title = _LEAD_IN.sub("", sentence).rstrip(".!")
            title = title[:1].upper() + title[1:]
            return Candidate(kind, title[:100], sentence, confidence, sentence, tags=["offline"])
    return None


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _SMALL
