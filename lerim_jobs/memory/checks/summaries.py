"""A session's summary: one memory a session, brought up to date as the session grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from lerim_jobs.ids import derived
from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.log.events import MemoryAdded, MemoryUpdated
from lerim_jobs.memory import wording
from lerim_jobs.memory.checks.proof import quoted
from lerim_jobs.memory.memory import Memory
from lerim_jobs.sessions.transcript import Turn

__all__ = ["SessionRef", "summary_effects", "summary_id"]


class SessionRef(msgspec.Struct, frozen=True):
    """The session that proves a memory, and the model that made it."""

    session_id: str
    stream: str
    agent: str
    model: str | None = None


def summary_id(project_id: str, stream: str) -> str:
    """A session has one summary, whatever happens."""
    return derived("summary", project_id, stream)


def summary_effects(
    *,
    title: str,
    body: str,
    session: SessionRef,
    turns: Sequence[Turn],
    project_id: str,
    memories: Mapping[str, Memory],
) -> list[Effect]:
    """Add the session's summary or bring it up to date; its quote is the first thing the user said.

    One that somebody archived, undid or redacted stays as it is.
    """
    memory_id = summary_id(project_id, session.stream)
    before = memories.get(memory_id)
    if before and before.status != "active":
        return []
    said = next((turn for turn in turns if turn.speaker == "user"), None)
    about = {"session_id": session.session_id, "stream": session.stream, "agent": session.agent}
    quotes = [quoted(said, said.text[:200], **about)] if said and said.text.strip() else []
    fields = {
        "memory_id": memory_id,
        "title": wording.line(title),
        "body": wording.text(body),
        "confidence": 0.5,
        "tags": ["session"],
        "quotes": quotes,
        "session_id": session.session_id,
        "model": session.model,
    }
    stream = f"memory-{memory_id}"
    if before is None:
        added = MemoryAdded(project_id=project_id, kind="summary", agent=session.agent, **fields)  # type: ignore[arg-type]
        return [Effect(stream, [added], 0)]
    if (before.title, before.body) == (fields["title"], fields["body"]):
        return []
    return [Effect(stream, [MemoryUpdated(**fields)], before.version)]  # type: ignore[arg-type]
