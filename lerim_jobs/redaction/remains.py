"""Looking for what still stands after a redaction: in the bytes of every file, in the rows of databases, in archives."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

import apsw
import msgspec

from lerim_jobs.redaction.needles import Needles

__all__ = ["Left", "hits_in_bytes", "is_binary", "leftovers"]

_CHUNK = 4 << 20
_OVERLAP = 64 << 10
_HEAD = 8000
_SQLITE, _GZIP = b"SQLite format 3\0", b"\x1f\x8b"


class Left(msgspec.Struct, frozen=True):
    """A file in which something still stands, or that could not be looked through: `why`."""

    path: str
    hits: int
    why: str = ""


def leftovers(
    files: Iterator[Path], needles: Needles, *, rewritten: frozenset[Path], failed: Mapping[str, str]
) -> list[Left]:
    """Files, whatever they are, in which something still stands. `rewritten` stores have no rows with it any more, only bytes
    may be left; `failed` ones could not be changed, with the reason.
    """
    found = []
    for path in files:
        hits, why = 0, failed.get(str(path), "")
        try:
            hits = hits_in_bytes(path, needles) if path in rewritten else _hits_in(path, needles)
        except FileNotFoundError:
            continue
        except (apsw.Error, OSError, EOFError, tarfile.TarError, zlib.error) as exc:
            why = why or f"it cannot be looked through: {exc}"
            with suppress(OSError):
                hits = hits_in_bytes(path, needles)
        if hits or why:
            found.append(Left(str(path), hits, why))
    return found


def hits_in_bytes(path: Path, needles: Needles) -> int:
    """What stands in the bytes as they lie there."""
    with path.open("rb") as file:
        return _hits_in_stream(file, needles)


def is_binary(head: bytes) -> bool:
    """Whether a file that begins so is no text, by the rule that git has."""
    return b"\0" in head[:_HEAD] or head.startswith(_GZIP)


def _hits_in(path: Path, needles: Needles) -> int:
    with path.open("rb") as file:
        head = file.read(len(_SQLITE))
    hits = hits_in_bytes(path, needles)
    if head == _SQLITE:
        # Long values are spread over pages: what stands across two of them shows in no byte.
        return max(hits, _hits_in_rows(path, needles))
    return hits + _hits_in_archive(path, needles) if head.startswith(_GZIP) else hits


def _hits_in_rows(path: Path, needles: Needles) -> int:
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")
        ]
        return sum(
            len(needles.sub(value if isinstance(value, str) else value.decode("utf-8", "surrogateescape"))[1])
            for name in tables
            for row in db.execute('SELECT * FROM "{}"'.format(name.replace('"', '""')))
            for value in row
            if isinstance(value, str | bytes)
        )
    finally:
        db.close()


def _hits_in_archive(path: Path, needles: Needles) -> int:
    try:
        with tarfile.open(path, "r:gz") as archive, tempfile.TemporaryDirectory(prefix="lerim-") as folder:
            return sum(_hits_in_member(archive, member, Path(folder), needles) for member in archive if member.isfile())
    except tarfile.ReadError:
        with gzip.open(path) as file:
            return _hits_in_stream(file, needles)


def _hits_in_member(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, needles: Needles) -> int:
    content = archive.extractfile(member)
    assert content is not None, "regular files have content"
    unpacked = folder / "member"
    with unpacked.open("wb") as file:
        shutil.copyfileobj(content, file)
    return _hits_in(unpacked, needles)


def _hits_in_stream(file: IO[bytes] | gzip.GzipFile, needles: Needles) -> int:
    return sum(len(needles.sub(text)[1]) for text in _texts(file))


def _texts(file: IO[bytes] | gzip.GzipFile) -> Iterator[str]:
    """The file in overlapping chunks."""
    tail = b""
    while data := file.read(_CHUNK):
        yield (tail + data).decode("utf-8", "surrogateescape")
        tail = data[-_OVERLAP:]
