"""Which pieces of a file are copies of another session's, and which are only the same words.

Keys of records that have ids tell it: nobody makes the same id twice. Where a key is made of words and their count (Codex), two
sessions that begin alike have equal keys and are two sessions. There a file copies another one when it says so, or when both
begin with the same pieces and a long text among them, behind the first: people begin with the same prompt, and nobody says
the same at length. Then what both begin with is the copy; equal words behind it were said again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from itertools import takewhile

from lerim_jobs.sessions.parts import Piece

__all__ = ["SOURCES", "Known", "copied", "copies_of"]

SOURCES = "sources"
"""In the state of a file: the sessions it says it was copied from."""

Known = Callable[[str, str, set[str]], set[str]]
"""(session id, beginning, keys) -> those that are kept already in this session, or in one of that beginning: the key of the
file's first piece, or `copies_of` a session; empty for none.
"""

_LONG_CHARS = 100


def copies_of(session_id: str) -> str:
    """The beginning of sessions that say they were copied from this one."""
    return f"copied from {session_id}"


def copied(
    pieces: Sequence[Piece], known: Known, session_id: str, began: str, sources: Iterable[str], *, proved: bool
) -> Set[str]:
    """Keys of pieces that stand in this session already, or that were copied with the beginning of another one.

    `sources` are the sessions that the file names; `proved`: everything before these pieces was copied.
    """
    keys = {piece.key for piece in pieces}
    own = known(session_id, "", keys)
    theirs = own.union(known(session_id, copies_of(session_id), keys), *(known(one, "", keys) for one in sources))
    return own | (_beginning(pieces, theirs) or _alike(pieces, own | known(session_id, began, keys), proved=proved))


def _beginning(pieces: Iterable[Piece], keys: Set[str]) -> set[str]:
    return {piece.key for piece in takewhile(lambda piece: piece.key in keys, pieces)}


def _alike(pieces: Sequence[Piece], keys: Set[str], *, proved: bool) -> set[str]:
    same = _beginning(pieces, keys)
    long = (len(piece.text) >= _LONG_CHARS and piece.speaker != "tool" for piece in pieces[1 : len(same)])
    return same if proved or any(long) else set()
