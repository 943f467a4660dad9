"""The kept turns of a session as the log has them."""

from __future__ import annotations

import msgspec

from lerim_jobs.errors import BadTranscript
from lerim_jobs.log.store import Store
from lerim_jobs.sessions import transcript
from lerim_jobs.sessions.session import Session
from lerim_jobs.sessions.transcript import Turn

__all__ = ["stored_turns"]


def stored_turns(store: Store, session: Session) -> list[Turn]:
    """Every kept turn, in order. Raises BadTranscript for a segment that cannot be read, CorruptLog for a missing one."""
    try:
        parts = [transcript.decode(store.blob(part.blob)) for part in session.segments if part.blob]
    except msgspec.DecodeError as exc:
        raise BadTranscript(f"a stored segment of session {session.session_id!r} cannot be read") from exc
    return [turn for part in parts for turn in part.turns]
