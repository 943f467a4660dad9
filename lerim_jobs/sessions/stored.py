"""The kept turns of a session as the log has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec

from lerim_jobs.errors import BadTranscript
from lerim_jobs.log.store import Store
from lerim_jobs.sessions import transcript
from lerim_jobs.sessions.ranges import holds
from lerim_jobs.sessions.session import Session
from lerim_jobs.sessions.transcript import Turn

__all__ = ["each_turn", "known_keys", "numbers", "stored_turns"]

T = TypeVar("T")


class _Key(msgspec.Struct, frozen=True, gc=False):
    n: int
    key: str


class _Keys(msgspec.Struct, frozen=True):
    """A segment without its texts."""

    turns: list[_Key]


_keys = msgspec.json.Decoder(_Keys)


def stored_turns(
    store: Store, session: Session, turn_from: int = 0, turn_to: int | None = None, *, withdrawn: bool = False
) -> list[Turn]:
    """Kept turns `turn_from <= n < turn_to`, in order; those that were taken back only when asked for.

    Raises BadTranscript for a segment that cannot be read, CorruptLog for a missing one.
    """
    return list(each_turn(store, session, turn_from, turn_to, withdrawn=withdrawn))


def each_turn(
    store: Store, session: Session, turn_from: int = 0, turn_to: int | None = None, *, withdrawn: bool = False
) -> Iterator[Turn]:
    """`stored_turns` with one segment at a time in memory: a session may be larger than a process should be."""
    end = session.turns if turn_to is None else turn_to
    for part in session.segments:
        if part.blob and part.turn_from < end and part.turn_to > turn_from:
            segment = _read(session, store.blob(part.blob), transcript.decode)
            turns = (turn for turn in segment.turns if turn_from <= turn.n < end)
            yield from (turn for turn in turns if withdrawn or not holds(session.withdrawn, turn.n))


def known_keys(blob: Callable[[str], bytes], session: Session, keys: set[str]) -> set[str]:
    """Those of the keys that stand in the session already; `blob` gives a segment's bytes. Raises as `stored_turns`."""
    known: set[str] = set()
    for part in session.segments:
        if part.blob and len(known) < len(keys):
            known.update(keys.intersection(_standing(session, _read(session, blob(part.blob), _keys.decode))))
    return known


def numbers(blob: Callable[[str], bytes], session: Session) -> dict[str, int]:
    """The number of each turn that stands, by its key, in order. Raises as `stored_turns`."""
    found: dict[str, int] = {}
    for part in session.segments:
        if part.blob:
            found.update(_standing(session, _read(session, blob(part.blob), _keys.decode)))
    return found


def _standing(session: Session, segment: _Keys) -> dict[str, int]:
    return {turn.key: turn.n for turn in segment.turns if not holds(session.withdrawn, turn.n)}


def _read(session: Session, data: bytes, decode: Callable[[bytes], T]) -> T:
    try:
        return decode(data)
    except msgspec.DecodeError as exc:
        raise BadTranscript(f"a stored segment of session {session.session_id!r} cannot be read") from exc
