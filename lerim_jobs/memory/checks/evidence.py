"""Whether every memory still has its proof: the quotes of active memories against the transcripts in the log."""

from __future__ import annotations

from lerim_jobs.errors import JobsError
from lerim_jobs.log.events import Quote
from lerim_jobs.log.projection import fold_all
from lerim_jobs.log.store import Store
from lerim_jobs.memory.checks.proof import RULES
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.stored import all_memories
from lerim_jobs.sessions.ranges import holds
from lerim_jobs.sessions.session import SESSIONS
from lerim_jobs.sessions.speech import own_words
from lerim_jobs.sessions.stored import stored_turns
from lerim_jobs.sessions.transcript import Turn, contains, said_in

__all__ = ["unsupported"]


def unsupported(store: Store) -> tuple[int, list[tuple[str, str]]]:
    """How many memories were checked, and the ids of those without proof with the reason.

    Checked are active memories that nobody wrote or edited by hand. Each quote must stand in the turn it names, said by
    the speaker it names; a decision or preference needs one that the user typed himself.
    """
    archive = _Archive(store)
    checked = [one for one in all_memories(store).values() if one.status == "active" and not one.by_hand]
    return len(checked), [(one.memory_id, why) for one in checked if (why := _missing(one, archive))]


class _Archive:
    """Stored transcripts, each read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sessions = fold_all(store, SESSIONS)
        self._turns: dict[str, dict[int, Turn]] = {}

    def stands(self, quote: Quote) -> bool:
        """Whether nobody took the turn back that the quote names."""
        session = self._sessions.get(quote.stream)
        return session is None or not holds(session.withdrawn, quote.turn)

    def turn(self, quote: Quote) -> Turn | None:
        """The turn a quote names, None when it is not in the log."""
        if quote.stream not in self._turns:
            session = self._sessions.get(quote.stream)
            try:
                turns = stored_turns(self._store, session, withdrawn=True) if session else []
            except JobsError:
                turns = []
            self._turns[quote.stream] = {turn.n: turn for turn in turns}
        return self._turns[quote.stream].get(quote.turn)


def _missing(memory: Memory, archive: _Archive) -> str | None:
    if not memory.quotes:
        return "it has no quote"
    from_user = stands = False
    for quote in memory.quotes:
        turn = archive.turn(quote)
        if turn is None:
            return f"turn {quote.turn} of session {quote.session_id} is not in the log"
        if turn.speaker != quote.speaker or not said_in(turn, quote.text):
            return f"its quote is not what the {quote.speaker} said in turn {quote.turn} of session {quote.session_id}"
        if archive.stands(quote):
            stands = True
            from_user = from_user or (turn.speaker == "user" and contains(own_words(turn.text), quote.text))
    if not stands:
        return "all that proves it was taken back"
    if memory.kind in RULES and not from_user:
        return "it is a rule, and none of its quotes are the user's own words"
    return None
