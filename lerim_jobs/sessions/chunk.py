"""A chunk of a scan: what a few files added, decided on the log as it is, and not yet in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set

import msgspec

from lerim_jobs import ids
from lerim_jobs.log.codec import encode
from lerim_jobs.log.events import SessionIndexed, SessionTurnsWithdrawn
from lerim_jobs.log.projection import catch_up, peek
from lerim_jobs.log.store import Store
from lerim_jobs.sessions import transcript
from lerim_jobs.sessions.ranges import Range, joined
from lerim_jobs.sessions.session import SESSIONS, Session, grown, without
from lerim_jobs.sessions.stored import known_keys, numbers
from lerim_jobs.sessions.transcript import Turn

__all__ = ["LIMITS", "Append", "Chunk", "Limits"]


class Limits(msgspec.Struct, frozen=True):
    """How much a chunk may hold: it is what a scan keeps in memory, commits at once, and repeats when it was killed."""

    files: int = 200
    kept_bytes: int = 1 << 23
    read_bytes: int = 1 << 28


LIMITS = Limits()
_TAKEN_BACK = "the user went back to an earlier prompt"
_LOST = "the session's file no longer has it"


class Append(msgspec.Struct, frozen=True):
    """Events that continue a stream which is at version `expected`."""

    stream: str
    events: list[SessionIndexed | SessionTurnsWithdrawn]
    expected: int


class Chunk:
    """Sessions read through it are as they will be once it is committed. `known` are those the log is asked for."""

    def __init__(self, store: Store, known: Set[str]) -> None:
        catch_up(store, SESSIONS)
        self._store, self._known = store, known
        self._sessions: dict[str, Session | None] = {}
        self._blobs: dict[str, bytes] = {}
        self._appends: dict[str, Append] = {}
        self._files = self._kept_bytes = self._read_bytes = 0

    @property
    def appends(self) -> list[Append]:
        """The events by stream."""
        return list(self._appends.values())

    @property
    def blobs(self) -> list[bytes]:
        """The segments that the events name."""
        return list(self._blobs.values())

    @property
    def taken_back(self) -> dict[str, list[Range]]:
        """Turns that were taken back, by the stream of their session."""
        found: dict[str, list[Range]] = {}
        for append in self.appends:
            for event in append.events:
                if isinstance(event, SessionTurnsWithdrawn):
                    found.setdefault(append.stream, []).append((event.turn_from, event.turn_to))
        return found

    def is_full(self, limits: Limits) -> bool:
        """Whether it is to be committed before more is read."""
        return (
            self._files >= limits.files
            or self._kept_bytes >= limits.kept_bytes
            or self._read_bytes >= limits.read_bytes
        )

    def session(self, stream: str) -> Session | None:
        """A session with what the chunk adds to it."""
        if stream not in self._sessions:
            self._sessions[stream] = peek(self._store, SESSIONS, stream) if stream in self._known else None
        return self._sessions[stream]

    def known_keys(self, streams: Iterable[str], keys: set[str]) -> set[str]:
        """Those of the keys that the sessions have already."""
        sessions = filter(None, map(self.session, streams))
        return set().union(*(known_keys(self._blob, session, keys) for session in sessions))

    def withdraw(self, stream: str, taken_back: Iterable[tuple[str, str]], left: Set[str] | None) -> None:
        """Say which turns that the session has no longer stand; as `Reading` has it."""
        session = self.session(stream)
        if session is None or not (taken_back or left is not None):
            return
        known = numbers(self._blob, session)
        ranges = [(known[first], known.get(behind, session.turns)) for first, behind in taken_back if first in known]
        self._withdraw(stream, [one for one in ranges if one[0] < one[1]], _TAKEN_BACK)
        if left is not None and len(session.files) == 1 and any(key in left for key in known):
            self._withdraw(stream, [(n, n + 1) for key, n in known.items() if key not in left], _LOST)

    def _withdraw(self, stream: str, ranges: Iterable[Range], reason: str) -> None:
        for first, end in joined(ranges):
            session = self._sessions[stream]
            assert session is not None
            event = SessionTurnsWithdrawn(first, end, reason)
            self._appends.setdefault(stream, Append(stream, [], session.version)).events.append(event)
            self._sessions[stream] = without(session, event, session.version + 1)

    def add(self, stream: str, event: SessionIndexed, turns: Sequence[Turn], read_bytes: int) -> Session:
        """Put what was read of a file behind what its session has, and return that session."""
        old = self.session(stream)
        version = old.version if old else 0
        event = self._placed(event, turns, old.turns if old else 0)
        self._appends.setdefault(stream, Append(stream, [], version)).events.append(event)
        session = self._sessions[stream] = grown(old, stream, event, version + 1)
        self._files += 1
        self._kept_bytes += len(encode(event))
        self._read_bytes += read_bytes
        return session

    def _placed(self, event: SessionIndexed, turns: Sequence[Turn], start: int) -> SessionIndexed:
        """The event with the place of its turns in the session and the name of their segment."""
        if not turns:
            return event
        if start:
            turns = [msgspec.structs.replace(turn, n=start + turn.n) for turn in turns]
        blob = transcript.encode(transcript.Segment(event.agent, event.session_id, list(turns)))
        name = ids.digest(blob)
        self._blobs[name] = blob
        self._kept_bytes += len(blob)
        return msgspec.structs.replace(event, turn_from=start, turn_to=start + len(turns), blob=name)

    def _blob(self, name: str) -> bytes:
        return self._blobs[name] if name in self._blobs else self._store.blob(name)
