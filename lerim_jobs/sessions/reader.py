"""Reading a session file, whole or only what was added since the last time.

A checkpoint is the offset behind the last complete line, verified by that line's hash. A file that shrank or changed before
the offset is read again from the start; what was kept before is known by its keys. A last line without newline is read when
the file has been quiet for a minute, is not checkpointed past, and not kept twice when its newline arrives.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec

from lerim_jobs import ids
from lerim_jobs.sessions.agents import AGENTS, LineReader
from lerim_jobs.sessions.discovery import Found
from lerim_jobs.sessions.parts import ROLLBACK, Piece
from lerim_jobs.sessions.records import lines
from lerim_jobs.sessions.secrets import plain, redact, redact_all
from lerim_jobs.sessions.transcript import Turn

__all__ = ["QUIET_MS", "Checkpoint", "Found", "Reading", "is_unchanged", "read"]

QUIET_MS = 60_000
_TAIL_KEYS = "tail_keys"
_MAX_BYTES, _MAX_CHARS = 1 << 30, 1 << 24
"""How much of a file is read, and of its words kept, at once; the next sync goes on."""
_MAX_NAME_CHARS, _MAX_READ_CHARS, _MAX_PATH_CHARS, _MAX_REASONS = 200, 2000, 4096, 50
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_REASON = re.compile(r"[A-Za-z][A-Za-z _.:/-]{0,59}")  # no digits: hardly a secret has none

Known = Callable[[str, str], frozenset[str]]
"""(session id, key of its first piece) -> keys of pieces that are kept already, in this or in a copied session."""


class Mark(Protocol):
    """What is remembered of a file that was read."""

    @property
    def size_bytes(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def inode(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def state(self) -> dict[str, Any]: ...


class Checkpoint(msgspec.Struct, frozen=True):
    """Where the last reading of a file ended. `tail_hash` is `length:hash` of the last complete line."""

    path: str
    size_bytes: int
    mtime_ns: int
    inode: int
    offset: int
    tail_hash: str
    next_turn: int
    state: dict[str, Any] = {}


class Reading(msgspec.Struct, frozen=True):
    """What one reading added. `dropped` counts records by reason; `human_prompts` are those of the new turns."""

    agent: str
    session_id: str
    turns: list[Turn]
    offset: int
    tail_hash: str
    state: dict[str, Any]
    skip_reason: str | None = None
    cwd: str | None = None
    branch: str | None = None
    title: str | None = None
    started_ms: int | None = None
    last_ms: int | None = None
    human_prompts: int = 0
    kept_bytes: int = 0
    redactions: int = 0
    first_key: str | None = None
    dropped: dict[str, int] = {}


class _Lines(msgspec.Struct):
    """Where reading stands in the file."""

    offset: int
    tail_hash: str


def read(found: Found, checkpoint: Checkpoint | None, *, now_ms: int, known: Known) -> Reading | None:
    """The new part of a file; None when it is as it was. Raises OSError when the file cannot be read."""
    if checkpoint and is_unchanged(found, checkpoint):
        return None
    path = Path(found.path)
    # Not through a link, and not waiting for a pipe, should somebody have put one there since the file was found.
    descriptor = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        resumed = checkpoint is not None and _goes_on(file, found, checkpoint)
        state = dict(checkpoint.state) if checkpoint and resumed else {}
        place = _Lines(checkpoint.offset, checkpoint.tail_hash) if checkpoint and resumed else _Lines(0, "")
        file.seek(place.offset)
        already = frozenset(state.pop(_TAIL_KEYS, ()))
        reader = AGENTS[found.agent].reader(state, stem=path.stem)
        quiet = now_ms - found.mtime_ns // 1_000_000 > QUIET_MS
        pieces, state = _pieces(file, reader, place, quiet=quiet)
    return _reading(found, reader, pieces, place, checkpoint if resumed else None, already, state, known)


def is_unchanged(found: Found, mark: Mark) -> bool:
    """Whether a file is as it was read. One that ends in an unfinished line may become readable just by growing quiet."""
    if (found.size_bytes, found.mtime_ns, found.inode) != (mark.size_bytes, mark.mtime_ns, mark.inode):
        return False
    return mark.offset >= mark.size_bytes or bool(mark.state.get(_TAIL_KEYS))


def _goes_on(file: IO[bytes], found: Found, checkpoint: Checkpoint) -> bool:
    """Whether everything up to the checkpoint's last line is still there."""
    if found.size_bytes < checkpoint.offset:
        return False
    size = int(checkpoint.tail_hash.partition(":")[0] or 0)
    file.seek(checkpoint.offset - size)
    return _tail_hash(file.read(size)) == checkpoint.tail_hash if size else checkpoint.offset == 0


def _pieces(file: IO[bytes], reader: LineReader, place: _Lines, *, quiet: bool) -> tuple[list[Piece], dict[str, Any]]:
    """The kept pieces, and the state behind the last complete line: an unfinished one will be read once more."""
    pieces = _Pieces()
    state: dict[str, Any] | None = None
    last, offset = b"", place.offset
    for line in lines(file):
        if line.endswith(b"\n"):
            if new := reader.read(line):
                pieces.take(new)
            offset += len(line)
            last = line
            if offset - place.offset > _MAX_BYTES or pieces.chars > _MAX_CHARS:
                break  # the next sync goes on here
        elif quiet:
            state = reader.finish()
            last_new = list(reader.read(line))
            pieces.take(last_new)
            state[_TAIL_KEYS] = [piece.key for piece in last_new] or ["nothing kept"]
    place.offset, place.tail_hash = offset, _tail_hash(last) if last else place.tail_hash
    return pieces.kept, reader.finish() if state is None else state


class _Pieces:
    """What is kept so far. A rollback takes so many prompts away, and what followed them."""

    def __init__(self) -> None:
        self.kept: list[Piece] = []
        self.chars = 0
        self._prompts: list[int] = []

    def take(self, new: Iterable[Piece]) -> None:
        for piece in new:
            if piece.key == ROLLBACK:
                self._roll_back(piece.at_ms or 1)
                continue
            if piece.human:
                self._prompts.append(len(self.kept))
            self.kept.append(piece)
            self.chars += len(piece.text)

    def _roll_back(self, turns: int) -> None:
        gone = self._prompts[-turns:] if turns > 0 else []
        if gone:
            del self._prompts[-len(gone) :], self.kept[gone[0] :]


def _reading(
    found: Found,
    reader: LineReader,
    pieces: list[Piece],
    place: _Lines,
    checkpoint: Checkpoint | None,
    already: frozenset[str],
    state: dict[str, Any],
    known: Known,
) -> Reading:
    session_id = _name(reader.session_id) or _name(Path(found.path).stem) or "unnamed"
    dropped: Counter[str] = Counter()
    skip = already if checkpoint else known(session_id, pieces[0].key) if pieces else frozenset()
    new = _unseen(pieces, skip, dropped)
    names = [" ".join((text or "")[:_MAX_READ_CHARS].split()) for text in (reader.title, reader.branch)]
    texts, redactions = redact_all([*(piece.text for piece in new), *names])
    title, branch = texts[len(new) :]
    dropped.update(_counted(reader.dropped))
    turns = [
        Turn(n, piece.speaker, text[: piece.limit_chars], piece.key, piece.at_ms)
        for n, (piece, text) in enumerate(zip(new, texts, strict=False), checkpoint.next_turn if checkpoint else 0)
    ]
    reason = _skip_reason(found, reader, pieces, turns)
    if reader.parent:
        turns, new = [], []
    return Reading(
        agent=found.agent,
        session_id=session_id,
        turns=turns if not reason or checkpoint else [],
        offset=place.offset,
        tail_hash=place.tail_hash,
        state=state,
        skip_reason=reason,
        cwd=plain(reader.cwd)[:_MAX_PATH_CHARS] if reader.cwd else None,
        title=title[:_MAX_NAME_CHARS] or None,
        branch=branch[:_MAX_NAME_CHARS] or None,
        started_ms=reader.first_ms,
        last_ms=reader.last_ms,
        human_prompts=sum(piece.human for piece in new),
        kept_bytes=sum(len(turn.text) for turn in turns),
        redactions=redactions,
        first_key=pieces[0].key if pieces and not checkpoint else None,
        dropped={reason: count for reason, count in sorted(dropped.items()) if count},
    )


def _unseen(pieces: Iterable[Piece], skip: frozenset[str], dropped: Counter[str]) -> list[Piece]:
    new: list[Piece] = []
    seen = set(skip)
    for piece in pieces:
        if piece.key in seen:
            dropped["read before"] += 1
        else:
            seen.add(piece.key)
            new.append(piece)
    return new


def _name(given: str) -> str:
    """A session's id as it may be printed, stored and be part of a stream's name; one that says too much is shortened."""
    if _UUID.fullmatch(given):
        return given
    name = " ".join(plain(given[:_MAX_READ_CHARS]).split())
    return name if len(name) <= _MAX_NAME_CHARS and not redact(name)[1] else ids.derived(given)


def _counted(given: Counter[str]) -> Counter[str]:
    """Counts by reason; types that a file names itself are kept only if they look like names, and not too many."""
    counted: Counter[str] = Counter()
    for reason, count in given.items():
        known = reason in counted or len(counted) < _MAX_REASONS
        known = known and bool(_REASON.fullmatch(reason)) and (reason.islower() or not redact(reason)[1])
        counted[reason if known else "of other types"] += count
    return counted


def _skip_reason(found: Found, reader: LineReader, pieces: list[Piece], turns: list[Turn]) -> str | None:
    """Why a file gives no session. A growing session may add turns without a prompt: that is decided where it is known."""
    if reader.parent:
        return "a subagent's file"
    if turns:
        return None
    if found.size_bytes == 0:
        return "empty file"
    if pieces:
        return "read before in another file"
    return "nothing to keep"


def _tail_hash(line: bytes) -> str:
    return f"{len(line)}:{ids.digest(line)[:16]}"
