"""Reading a session file, whole or only what was added since the last time.

What is remembered of a file is the offset behind its last complete line, verified by that line's hash. A file that shrank or
changed before the offset is read again from the start; what was kept before is known by its keys. A last line without newline
is read when the file has been quiet for a minute, is not counted as read, and not kept twice when its newline arrives.

A large file is read in parts. As long as parts hold what is known by its keys, the next one leaves it out as well: a copy of
another session may be longer than a part.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, Any

import msgspec

from lerim_jobs import ids
from lerim_jobs.log.events import SessionIndexed
from lerim_jobs.sessions.agents import AGENTS, LineReader
from lerim_jobs.sessions.copies import Known, copied
from lerim_jobs.sessions.discovery import Found
from lerim_jobs.sessions.parts import Piece
from lerim_jobs.sessions.records import BLOCK_BYTES, blocks
from lerim_jobs.sessions.secrets import plain, redact, redact_all
from lerim_jobs.sessions.session import FileMark
from lerim_jobs.sessions.transcript import Turn
from lerim_jobs.sessions.typed import without_encoded, without_pictures

__all__ = ["MAX_PART_BYTES", "MAX_PART_CHARS", "QUIET_MS", "Found", "Known", "Reading", "is_unchanged", "read"]

QUIET_MS = 60_000
MAX_PART_BYTES, MAX_PART_CHARS = 1 << 28, 1 << 21
"""How much of a file is read, and of its words kept, at once."""
_TAIL_KEYS = "tail_keys"
_BEGAN = "began"
"""In the state while what follows may be known by its keys: that of the file's first piece, empty before there was one."""
_MAX_NAME_CHARS, _MAX_READ_CHARS, _MAX_PATH_CHARS, _MAX_REASONS = 200, 2000, 4096, 50
_PLAIN_CHARS = 60
"""Of so few characters none are encoded bytes."""
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_REASON = re.compile(r"[A-Za-z][A-Za-z _.:/-]{0,59}")  # no digits: hardly a secret has none


class Reading(msgspec.Struct, frozen=True):
    """What one reading added: turns, numbered from 0, and all there is to say about them but their place in the session.

    `read_bytes` are those of the file; `more`: it goes on behind `indexed.offset`. `withdrawn` tells what was taken back of
    what earlier readings gave: the key of the first turn that is gone, and that of the next one that is not, empty for none.
    `left`: the keys that a file still has which was rewritten and read as a whole; None for any other.
    """

    turns: list[Turn]
    indexed: SessionIndexed
    read_bytes: int
    more: bool
    withdrawn: list[tuple[str, str]] = []
    left: frozenset[str] | None = None


class _Part(msgspec.Struct):
    """The kept pieces of a part of a file, and where it ends. `more`: the file goes on there."""

    pieces: list[Piece]
    mark: FileMark
    more: bool


def read(
    found: Found,
    mark: FileMark | None,
    *,
    host: str = "",
    now_ms: int,
    known: Known,
    max_bytes: int = MAX_PART_BYTES,
    max_chars: int = MAX_PART_CHARS,
) -> Reading | None:
    """The next part of a file; None when it is as it was. `host` is noted. Raises OSError when the file cannot be read."""
    if mark and is_unchanged(found, mark):
        return None
    # Not through a link, and not waiting for a pipe, should somebody have put one there since the file was found.
    descriptor = os.open(found.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        rewritten = mark is not None and not _goes_on(file, found, mark)
        if not mark or rewritten:
            mark = FileMark(found.path, host, 0, 0, 0, 0, "", {_BEGAN: ""})
        state = dict(mark.state)
        skip, began = set(state.pop(_TAIL_KEYS, ())), state.pop(_BEGAN, None)
        start = FileMark(found.path, host, found.size_bytes, found.mtime_ns, found.inode, mark.offset, mark.tail_hash)
        reader = AGENTS[found.agent].reader(state, stem=_stem(found.path))
        file.seek(start.offset)
        quiet = now_ms - found.mtime_ns // 1_000_000 > QUIET_MS
        part = _part(file, reader, start, quiet=quiet, max_bytes=max_bytes, max_chars=max_chars)
    session_id = _name(reader.session_id) or _name(_stem(found.path)) or "unnamed"
    if began is not None and part.pieces:
        proved, began = bool(began), began or part.pieces[0].key
        if reader.sources is None:
            skip |= known(session_id, began, {piece.key for piece in part.pieces})
        else:
            skip |= copied(part.pieces, known, session_id, began, reader.sources, proved=proved)
    if began is not None and part.more and _may_go_on(part, skip, reader):
        part.mark.state[_BEGAN] = began
    turns, indexed = _indexed(found.agent, session_id, reader, part, skip)
    indexed = msgspec.structs.replace(indexed, first_key=began or None)
    left = frozenset(piece.key for piece in part.pieces) if rewritten and not part.more else None
    withdrawn = reader.prompts.withdrawn()
    return Reading(turns, indexed, indexed.offset - start.offset, part.more, withdrawn, left)


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]


def _may_go_on(part: _Part, skip: set[str], reader: LineReader) -> bool:
    """Whether the next part may be known by its keys as well."""
    known = [piece.key in skip for piece in part.pieces]
    return any(known) if known and reader.sources is None else all(known)


def is_unchanged(found: Found, mark: FileMark) -> bool:
    """Whether a file is as it was read. One that ends in an unfinished line may become readable just by growing quiet."""
    if (found.size_bytes, found.mtime_ns, found.inode) != (mark.size_bytes, mark.mtime_ns, mark.inode):
        return False
    return mark.offset >= mark.size_bytes or bool(mark.state.get(_TAIL_KEYS))


def _goes_on(file: IO[bytes], found: Found, mark: FileMark) -> bool:
    """Whether everything up to the mark's last line is still there."""
    if found.size_bytes < mark.offset:
        return False
    size = int(mark.tail_hash.partition(":")[0] or 0)
    file.seek(mark.offset - size)
    return _tail_hash(file.read(size)) == mark.tail_hash if size else mark.offset == 0


def _part(
    file: IO[bytes], reader: LineReader, start: FileMark, *, quiet: bool, max_bytes: int, max_chars: int
) -> _Part:
    """The state is the one behind the last complete line: an unfinished one will be read once more."""
    pieces = _Pieces()
    state: dict[str, Any] | None = None
    last, read_bytes, more = b"", 0, False
    for block in blocks(file, min(BLOCK_BYTES, max_bytes)):
        if more := read_bytes > max_bytes or pieces.chars > max_chars:
            break
        if block.endswith(b"\n"):
            taken = pieces.take_lines(reader, block, max_chars)
            read_bytes += taken
            last = block[:taken]
            if more := taken < len(block):
                break
        elif quiet:
            state = reader.finish()
            before = len(pieces.kept)
            pieces.take_lines(reader, block, max_chars)
            state[_TAIL_KEYS] = [piece.key for piece in pieces.kept[before:]] or ["nothing kept"]
    end = msgspec.structs.replace(
        start,
        offset=start.offset + read_bytes,
        tail_hash=_tail_hash(last[last.rfind(b"\n", 0, -1) + 1 :]) if last else start.tail_hash,
        state=reader.finish() if state is None else state,
    )
    return _Part(pieces.standing(reader.dropped), end, more)


class _Pieces:
    """What is kept so far."""

    def __init__(self) -> None:
        self.kept: list[Piece] = []
        self.chars = 0

    def take_lines(self, reader: LineReader, block: bytes, max_chars: int) -> int:
        """Read lines until there is enough; returns how many bytes of them were read, of the first line in any case."""
        kept, take, chars = self.kept, reader.take, self.chars
        taken = len(block)
        for n, records in enumerate(reader.decode(block)):
            if n and chars > max_chars:
                taken = len(b"\n".join([*block.split(b"\n", n)[:n], b""]))
                break
            for piece in take(records):
                kept.append(piece)
                chars += len(piece.text) + len(piece.answers)
        self.chars = chars
        return taken

    def standing(self, dropped: Counter[str]) -> list[Piece]:
        """Without what was taken back; that is counted."""
        kept = [piece for piece in self.kept if piece.under is None or not piece.under.gone]
        dropped["taken back"] += len(self.kept) - len(kept)
        return kept


def _indexed(
    agent: str, session_id: str, reader: LineReader, part: _Part, skip: set[str]
) -> tuple[list[Turn], SessionIndexed]:
    """The turns of the pieces nobody has seen, without secrets, and what is known of the session by now."""
    dropped: Counter[str] = Counter()
    new = _unseen(part.pieces, skip, dropped)
    names = [" ".join((text or "")[:_MAX_READ_CHARS].split()) for text in (reader.title, reader.branch)]
    said = [text for piece in new for text in ((piece.text, piece.answers) if piece.answers else (piece.text,))]
    said = [without_pictures(text) if len(text) > _PLAIN_CHARS else text for text in said]
    texts, redactions = redact_all([*said, *names])
    title, branch = texts[len(said) :]
    dropped.update(_counted(reader.dropped))
    rest = iter(texts)
    turns = [_turn(n, piece, rest) for n, piece in enumerate(new)]
    reason = _skip_reason(part, reader, turns)
    if reader.parent:
        turns, new = [], []
    return turns, SessionIndexed(
        agent=agent,
        session_id=session_id,
        **msgspec.structs.asdict(part.mark),
        skip_reason=reason,
        cwd=plain(reader.cwd)[:_MAX_PATH_CHARS] if reader.cwd else None,
        branch=branch[:_MAX_NAME_CHARS] or None,
        title=title[:_MAX_NAME_CHARS] or None,
        started_ms=reader.first_ms,
        last_ms=reader.last_ms,
        human_prompts=sum(piece.human for piece in new),
        kept_bytes=sum(len(turn.text) + len(turn.answers) for turn in turns),
        redactions=redactions,
        dropped={reason: count for reason, count in sorted(dropped.items()) if count},
    )


def _turn(n: int, piece: Piece, texts: Iterator[str]) -> Turn:
    """The piece with its texts without secrets, which are the next ones."""
    text = next(texts)
    if len(text) > _PLAIN_CHARS or piece.limit_chars is not None:
        text = without_encoded(text)[: piece.limit_chars]
    answers = without_encoded(next(texts))[: piece.answers_chars] if piece.answers else ""
    return Turn(n, piece.speaker, text, piece.key, piece.at_ms, piece.form, answers)


def _unseen(pieces: Iterable[Piece], skip: set[str], dropped: Counter[str]) -> list[Piece]:
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


def _skip_reason(part: _Part, reader: LineReader, turns: list[Turn]) -> str | None:
    """Why a file gives no session. A growing session may add turns without a prompt: that is decided where it is known."""
    if reader.parent:
        return "a subagent's file"
    if turns:
        return None
    if part.mark.size_bytes == 0:
        return "empty file"
    if part.pieces:
        return "read before in another file"
    return "nothing to keep"


def _tail_hash(line: bytes) -> str:
    return f"{len(line)}:{ids.digest(line)[:16]}"
