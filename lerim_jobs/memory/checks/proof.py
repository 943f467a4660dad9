"""What must be proved before a memory may say it: words in the stored transcript, and whose words.

    decision, preference        the user's own words: not a tool's, not the agent's, not what the user only pasted
    procedure                   the user's or the coding agent's words
    insight, pitfall, friction  anybody's words; when only a tool said them, the confidence stays low
What somebody wrote or edited by hand is changed on the user's own words alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from lerim_jobs.log.events import MemoryKind, Quote
from lerim_jobs.memory import wording
from lerim_jobs.memory.checks.similarity import covered, stems
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.proposals import Candidate
from lerim_jobs.sessions.folding import fold
from lerim_jobs.sessions.speech import own_words, said_by_nobody, said_by_user
from lerim_jobs.sessions.transcript import Turn, as_said, contains, find_quote, said_in

__all__ = ["RULES", "TOOL_CONFIDENCE", "Refused", "Witness", "quoted", "same_quote"]

RULES: frozenset[MemoryKind] = frozenset(("decision", "preference"))
"""Kinds that tell a coding agent what to do: they need the user's word."""
TOOL_CONFIDENCE = 0.4
_HALF, _MOSTLY = 0.5, 0.6


class Refused(Exception):
    """Why a proposal is refused."""


class Witness:
    """The stored transcript of a session, asked for proof. `elsewhere` is what agents read besides it, such as its title."""

    def __init__(self, turns: Sequence[Turn], elsewhere: Sequence[str] = ()) -> None:
        self._turns, self._elsewhere = turns, elsewhere

    def turn_of(self, candidate: Candidate, over: Memory | None, text: str) -> tuple[Turn, float]:
        """The turn that proves the candidate, also for changing `over`, when the memory will say `text`; and how much
        confidence it can give. Raises Refused.
        """
        turn = self._at(candidate) or find_quote(self._turns, candidate.quote)
        if turn is None:
            raise Refused("its quote is not in the stored transcript")
        if candidate.kind in RULES or (over and (over.kind in RULES or over.by_hand)):
            return self._rule(candidate.quote, text, turn), 1.0
        typed = turn.speaker == "user" and contains(own_words(turn.text), candidate.quote)
        printed = not typed and contains(said_by_nobody(turn), candidate.quote)
        if printed and "procedure" in (candidate.kind, over and over.kind):
            raise Refused("only a tool said it: a procedure needs the user's or the agent's words")
        return turn, TOOL_CONFIDENCE if printed or turn.speaker == "tool" else 1.0

    def _at(self, candidate: Candidate) -> Turn | None:
        """The turn that extraction knew, where the quote still stands in it."""
        turn = self._by_number.get(candidate.turn)
        return turn if turn and said_in(turn, candidate.quote) else None

    @cached_property
    def _by_number(self) -> dict[int, Turn]:
        return {turn.n: turn for turn in self._turns}

    def _rule(self, quote: str, text: str, found: Turn) -> Turn:
        turn = said_by_user(self._turns, quote, at=found.n)
        if turn is None:
            raise Refused("the user did not say it in his own words: a rule needs the user's words")
        told = covered(text, self._typed | self._answered(turn))
        printed = max((covered(text, passage) for passage in self._printed), default=0.0)
        read = max((covered(text, stems(one)) for one in self._elsewhere), default=0.0)
        if (told < _HALF and printed >= _MOSTLY and printed > told) or (told == 0 and read >= _MOSTLY):
            raise Refused("its words are a tool's or a pasted text's, not the user's: a rule needs the user's words")
        return turn

    def _answered(self, turn: Turn) -> frozenset[str]:
        """What the agent asked or said right before the user's turn: `yes, do that` gives it the user's word."""
        before = [one for one in self._turns if one.n < turn.n]
        start = max((n for n, one in enumerate(before) if one.speaker == "user"), default=-1)
        said = [one.text for one in before[start + 1 :] if one.speaker == "assistant"]
        return stems("\n".join([*said, turn.answers]))

    @cached_property
    def _typed(self) -> frozenset[str]:
        return stems("\n".join(own_words(turn.text) for turn in self._turns if turn.speaker == "user"))

    @cached_property
    def _printed(self) -> list[frozenset[str]]:
        """What nobody said, passage by passage."""
        return [found for turn in self._turns if (found := stems(said_by_nobody(turn)))]


def quoted(turn: Turn, text: str, *, session_id: str, stream: str, agent: str) -> Quote:
    """The proof as it is kept: the words as the turn spells them, cut where they are endless."""
    return Quote(as_said(turn, text)[: wording.MAX_QUOTE], session_id, stream, agent, turn.n, turn.speaker, turn.at_ms)


def same_quote(one: Quote, other: Quote) -> bool:
    """Whether both are the same words of the same turn, or one is most of the other."""
    if (one.stream, one.turn) != (other.stream, other.turn):
        return False
    short, long = sorted((fold(one.text).strip(), fold(other.text).strip()), key=len)
    return short in long and 2 * len(short) >= len(long)
