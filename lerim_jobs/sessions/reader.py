"""Reading a session file, whole or only what was added since the last time.

A checkpoint is the offset behind the last complete line, verified by that line's hash. A file that shrank or changed before
the offset is read again from the start; what was kept before is known by its keys. A last line without newline is read when
the file has been quiet for a minute, is not checkpointed past, and not kept twice when its newline arrives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import msgspec

from lerim_jobs.ids import digest
from lerim_jobs.sessions.agents import AGENTS, LineReader
from lerim_jobs.sessions.discovery import Found
from lerim_jobs.sessions.parts import Piece
from lerim_jobs.sessions.records import lines
from lerim_jobs.sessions.redaction import redact
from lerim_jobs.sessions.transcript import Turn

__all__ = ["QUIET_MS", "Checkpoint", "Found", "Reading", "read"]

QUIET_MS = 60_000
_TAIL_KEYS = "tail_keys"

Known = Callable[[str, str], frozenset[str]]
"""(session id, key of its first piece) -> keys of pieces that are kept already, in this or in a copied session."""


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
    if checkpoint and _same(found, checkpoint):
        return None
    path = Path(found.path)
    with path.open("rb") as file:
        resumed = checkpoint is not None and _goes_on(file, found, checkpoint)
        state = dict(checkpoint.state) if checkpoint and resumed else {}
        place = _Lines(checkpoint.offset, checkpoint.tail_hash) if checkpoint and resumed else _Lines(0, "")
        file.seek(place.offset)
        already = frozenset(state.pop(_TAIL_KEYS, ()))
        reader = AGENTS[found.agent].reader(state, stem=path.stem)
        quiet = now_ms - found.mtime_ns // 1_000_000 > QUIET_MS
        pieces, state = _pieces(file, reader, place, quiet=quiet)
    return _reading(found, reader, pieces, place, checkpoint if resumed else None, already, state, known)


def _same(found: Found, checkpoint: Checkpoint) -> bool:
    """A file that ends in an unfinished line may become readable just by growing quiet."""
    unfinished = checkpoint.offset < checkpoint.size_bytes and not checkpoint.state.get(_TAIL_KEYS)
    return not unfinished and (found.size_bytes, found.mtime_ns, found.inode) == (
        checkpoint.size_bytes,
        checkpoint.mtime_ns,
        checkpoint.inode,
    )


def _goes_on(file: IO[bytes], found: Found, checkpoint: Checkpoint) -> bool:
    """Whether everything up to the checkpoint's last line is still there."""
    if found.size_bytes < checkpoint.offset:
        return False
    size = int(checkpoint.tail_hash.partition(":")[0] or 0)
    file.seek(checkpoint.offset - size)
    return _tail_hash(file.read(size)) == checkpoint.tail_hash if size else checkpoint.offset == 0


def _pieces(file: IO[bytes], reader: LineReader, place: _Lines, *, quiet: bool) -> tuple[list[Piece], dict[str, Any]]:
    """The kept pieces, and the state behind the last complete line: an unfinished one will be read once more."""
    pieces: list[Piece] = []
    state: dict[str, Any] | None = None
    last = b""
    for line in lines(file):
        complete = line.endswith(b"\n")
        if not complete and not quiet:
            break
        if not complete:
            state = reader.finish()
        new = list(reader.read(line))
        for piece in new:
            _take(pieces, piece)
        if complete:
            place.offset += len(line)
            last = line
        elif state is not None:
            state[_TAIL_KEYS] = [piece.key for piece in new] or ["nothing kept"]
    place.tail_hash = _tail_hash(last) if last else place.tail_hash
    return pieces, reader.finish() if state is None else state


def _take(pieces: list[Piece], piece: Piece) -> None:
    """Append, or for a rollback remove the turns it cancels: so many prompts and what followed them."""
    if piece.key != "rollback":
        pieces.append(piece)
        return
    for _ in range(piece.at_ms or 1):
        last = max((n for n, one in enumerate(pieces) if one.human), default=None)
        if last is None:
            return
        del pieces[last:]


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
    session_id = reader.session_id or Path(found.path).stem
    dropped = Counter(reader.dropped)
    skip = already if checkpoint else known(session_id, pieces[0].key) if pieces else frozenset()
    turns, redactions = _turns(pieces, skip, checkpoint.next_turn if checkpoint else 0, dropped)
    keys = {turn.key for turn in turns}
    prompts = sum(piece.human and piece.key in keys for piece in pieces)
    reason = _skip_reason(found, reader, pieces, turns)
    if reader.parent:
        turns, prompts = [], 0
    return Reading(
        agent=found.agent,
        session_id=session_id,
        turns=turns if not reason or checkpoint else [],
        offset=place.offset,
        tail_hash=place.tail_hash,
        state=state,
        skip_reason=reason,
        cwd=reader.cwd,
        branch=redact(reader.branch)[0] if reader.branch else None,
        title=redact(" ".join(reader.title.split())[:200])[0] if reader.title else None,
        started_ms=reader.first_ms,
        last_ms=reader.last_ms,
        human_prompts=prompts,
        kept_bytes=sum(len(turn.text) for turn in turns),
        redactions=redactions,
        first_key=pieces[0].key if pieces and not checkpoint else None,
        dropped={reason: count for reason, count in sorted(dropped.items()) if count},
    )


def _turns(pieces: Iterable[Piece], skip: frozenset[str], number: int, dropped: Counter[str]) -> tuple[list[Turn], int]:
    turns: list[Turn] = []
    seen = set(skip)
    redactions = 0
    for piece in pieces:
        if piece.key in seen:
            dropped["read before"] += 1
            continue
        seen.add(piece.key)
        text, hits = redact(piece.text)
        redactions += hits
        turns.append(Turn(number + len(turns), piece.speaker, text, piece.key, piece.at_ms))
    return turns, redactions


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
    return f"{len(line)}:{digest(line)[:16]}"
