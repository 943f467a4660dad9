"""The turns around a memory's quotes: what was being talked about when the sentence fell. Search finds memories by it."""

from __future__ import annotations

import msgspec

from lerim_jobs.errors import CorruptLog
from lerim_jobs.log.events import Quote
from lerim_jobs.log.projection import catch_up
from lerim_jobs.log.store import Store
from lerim_jobs.sessions import transcript
from lerim_jobs.sessions.session import SESSIONS, Session
from lerim_jobs.sessions.transcript import Turn

__all__ = ["Neighbours"]

_MOST_CHARS = 400
_MOST_QUOTES = 5
_KEPT = 32


class Neighbours:
    """Sessions as they are when this is made; the last few are kept, because memories of one are asked for in a row."""

    def __init__(self, store: Store) -> None:
        catch_up(store, SESSIONS)
        self._store = store
        self._sessions: dict[str, Session | None] = {}
        self._segments: dict[str, dict[int, Turn]] = {}

    def around(self, quotes: list[Quote]) -> str:
        """The end of the turn before each quote, the quote's own turn near it, and the start of the turn after."""
        parts: dict[str, None] = {}
        for quote in quotes[-_MOST_QUOTES:]:
            before, own, after = (self._turn(quote.stream, quote.turn + step) for step in (-1, 0, 1))
            at = own.find(quote.text)
            start = max(0, at - _MOST_CHARS // 2)
            for text in (
                before[-_MOST_CHARS:],
                own[start : start + len(quote.text) + _MOST_CHARS],
                after[:_MOST_CHARS],
            ):
                parts[text] = None
        return "\n".join(part for part in parts if part)

    def _turn(self, stream: str, number: int) -> str:
        """The text of a stored turn; empty where there is none."""
        session = self._session(stream)
        for segment in session.segments if session else ():
            if segment.turn_from <= number < segment.turn_to:
                turn = self._segment(segment.blob).get(number)
                return turn.text if turn else ""
        return ""

    def _session(self, stream: str) -> Session | None:
        if stream not in self._sessions:
            if len(self._sessions) >= _KEPT:
                self._sessions.clear()
            stored = self._store.doc(SESSIONS.name, stream)
            self._sessions[stream] = msgspec.json.decode(stored, type=Session) if stored else None
        return self._sessions[stream]

    def _segment(self, blob: str) -> dict[int, Turn]:
        if blob not in self._segments:
            if len(self._segments) >= _KEPT:
                self._segments.clear()
            try:
                turns = transcript.decode(self._store.blob(blob)).turns
            except (CorruptLog, msgspec.DecodeError):
                turns = []  # A memory is found by its own words then; `lerim audit` is the place to say what is missing.
            self._segments[blob] = {turn.n: turn for turn in turns}
        return self._segments[blob]
