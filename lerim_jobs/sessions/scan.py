"""The scan: what is new in session files goes into the log, chunk by chunk.

A chunk is committed before the next one is read, and nothing is carried from one to the other that the log does not say. So
whoever continues a scan that was killed goes on behind its last chunk, and memory is bounded by a chunk however long the
history is. A chunk that was decided on sessions which somebody else changed meanwhile is decided again, and only that one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import msgspec

from lerim_jobs.errors import ConflictError, RetryableError
from lerim_jobs.log.events import SessionIndexed
from lerim_jobs.log.projection import fold_each
from lerim_jobs.log.store import Store
from lerim_jobs.sessions.chunk import Chunk, Limits
from lerim_jobs.sessions.copies import SOURCES, copies_of
from lerim_jobs.sessions.discovery import Found
from lerim_jobs.sessions.reader import MAX_PART_CHARS, Reading, is_unchanged, read
from lerim_jobs.sessions.session import SESSIONS, FileMark, Session, session_stream
from lerim_jobs.sessions.tally import UNCHANGED, Tally
from lerim_jobs.sessions.transcript import REDACTED

__all__ = ["Scan"]

_log = logging.getLogger(__name__)
_MAX_CONFLICTS = 5
"""In a row over one chunk: others write faster than it can be decided."""


class Scan:
    """One pass over the session files of a host. `commit` appends a chunk; it raises ConflictError when a session has moved
    on, and whatever shall end the scan.
    """

    def __init__(
        self, store: Store, tally: Tally, commit: Callable[[Chunk], None], *, host: str, now_ms: int, limits: Limits
    ) -> None:
        self._store, self._tally, self._commit = store, tally, commit
        self._host, self._now_ms, self._limits = host, now_ms, limits
        self._owners: dict[str, str] = {}
        """A file -> the session it was read for."""
        self._beginnings: dict[str, set[str]] = {}
        """The key of a first piece, or `copies_of` a session -> sessions that begin so."""
        self._known: set[str] = set()
        """Sessions that are in the log: most files of a first scan belong to none."""

    def run(self, found: Iterable[Found], *, since_ms: int = 0) -> None:
        """Read the files that are new or look different; those that nobody wrote to since `since_ms` are left out."""
        changed = self._changed(found)
        files = [file for file in changed if file.mtime_ns >= since_ms * 1_000_000]
        for file in changed:
            if file.mtime_ns < since_ms * 1_000_000:
                self._tally.note(file.path, "outside the window")
        at = conflicts = 0
        while at < len(files):
            try:
                at, conflicts = self._next_chunk(files, at), 0
            except ConflictError:
                conflicts += 1
                if conflicts > _MAX_CONFLICTS:
                    raise

    def _changed(self, found: Iterable[Found]) -> list[Found]:
        """Files that do not look as when they were read. Of the sessions only their beginnings are remembered."""
        files = {file.path: file for file in found}
        for session in fold_each(self._store, SESSIONS):
            self._note(session)
            for mark in session.files.values():
                file = files.get(mark.path)
                if file and is_unchanged(file, mark):
                    self._tally.note(mark.path, UNCHANGED)
                    del files[mark.path]
                elif file:
                    self._owners[mark.path] = session.stream
        return list(files.values())

    def _next_chunk(self, files: Sequence[Found], at: int) -> int:
        """Read until a chunk is full and commit it; returns where to go on: at the same file when that has more."""
        chunk = Chunk(self._store, self._known)
        while at < len(files) and not chunk.is_full(self._limits):
            if not self._read_on(chunk, files[at]):
                at += 1
        if chunk.appends:
            self._commit(chunk)
        for append in chunk.appends:
            for event in append.events:
                if isinstance(event, SessionIndexed):
                    self._tally.add(event)
        return at

    def _read_on(self, chunk: Chunk, file: Found) -> bool:
        """Read the next part of the file into the chunk; returns whether it goes on."""
        reading = self._read(chunk, file)
        if reading:
            self._add(chunk, reading)
        return reading is not None and reading.more

    def _read(self, chunk: Chunk, file: Found) -> Reading | None:
        """The next part of the file; None where there is none, which is noted."""
        try:
            reading = read(
                file,
                self._mark(chunk, file.path),
                host=self._host,
                now_ms=self._now_ms,
                known=lambda session_id, began, keys: chunk.known_keys(
                    self._alike(session_stream(file.agent, session_id), began), keys
                ),
                max_bytes=self._limits.read_bytes,
                max_chars=min(self._limits.kept_bytes, MAX_PART_CHARS),
            )
        except OSError as exc:
            self._tally.note(file.path, f"unreadable: {exc.strerror}")
            return None
        except RetryableError:
            raise
        except Exception as exc:
            # A bug of a reader: it must cost this file, not the scan of all others.
            _log.exception("the reader of %s failed on %r", file.agent, file.path)
            self._tally.note(file.path, f"the reader failed: {type(exc).__name__}")
            return None
        if reading is None:
            self._tally.note(file.path, UNCHANGED)
        return reading

    def _add(self, chunk: Chunk, reading: Reading) -> None:
        event = reading.indexed
        stream = session_stream(event.agent, event.session_id)
        if event.title and any(_was_redacted(chunk.session(one)) for one in self._alike(stream, event.first_key)):
            # Agents write a session's title again and again, also into forks: what was taken out of it stays out.
            event = msgspec.structs.replace(event, title=None)
        # Remembered even if the chunk is not kept: then somebody else has read the file for this session.
        self._owners[event.path] = stream
        chunk.withdraw(stream, reading.withdrawn, reading.left)
        self._note(chunk.add(stream, event, reading.turns, reading.read_bytes))

    def _note(self, session: Session) -> None:
        self._known.add(session.stream)
        if session.first_key:
            self._beginnings.setdefault(session.first_key, set()).add(session.stream)
        for mark in session.files.values():
            for source in mark.state.get(SOURCES, ()):
                self._beginnings.setdefault(copies_of(source), set()).add(session.stream)

    def _alike(self, stream: str, began: str | None) -> set[str]:
        """The session, and those that begin as this file does."""
        return {stream, *self._beginnings.get(began or "", ())}

    def _mark(self, chunk: Chunk, path: str) -> FileMark | None:
        owner = self._owners.get(path)
        session = chunk.session(owner) if owner else None
        return session.files.get(path) if session else None


def _was_redacted(session: Session | None) -> bool:
    return session is not None and REDACTED in (session.title or "")
