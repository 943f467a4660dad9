"""Reading one object out of git's pack files: the index finds it, deltas are put together. Everything in them may be hostile."""

from __future__ import annotations

import bisect
import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lerim_jobs.git.files import open_plain

__all__ = ["KINDS", "BadObject", "Packs", "inflated"]

KINDS = {1: "commit", 2: "tree", 3: "blob", 4: "tag"}
_OFFSET_DELTA, _NAME_DELTA = 6, 7
_MOST_PACKS = 4_000
_MOST_INDEX_BYTES = 64_000_000
_MOST_DELTAS = 5_000
_CHUNK_BYTES = 65_536
_HEADER_BYTES = 64


class BadObject(Exception):
    """It is not there, larger than allowed, or not what git writes."""


class _Stored(NamedTuple):
    """Bytes as they lie in a pack: an object's of `kind`, or a delta to the one at the offset or of the name in `base`."""

    kind: int
    data: bytes
    base: int | bytes | None


class Packs:
    """The packs of one repository. Raises BadObject, OSError."""

    def __init__(self, folder: Path, name_bytes: int) -> None:
        self.name_bytes = name_bytes
        names: list[str] = []
        with suppress(OSError):
            names = sorted(name for name in os.listdir(folder) if name.endswith(".idx"))[:_MOST_PACKS]
        self.indexes = [folder / name for name in names]

    def read(self, name: bytes, most_bytes: int) -> tuple[str, bytes]:
        """The kind and the bytes of an object by its name."""
        for index in self.indexes:
            with suppress(OSError):
                offset = self._offset(index, name)
                if offset is not None:
                    return self._object(index.with_suffix(".pack"), offset, most_bytes)
        raise BadObject("not there")

    def _object(self, pack: Path, offset: int, most_bytes: int) -> tuple[str, bytes]:
        deltas: list[bytes] = []
        descriptor = open_plain(pack)
        try:
            while len(deltas) < _MOST_DELTAS:
                stored = _stored_at(descriptor, offset, self.name_bytes, most_bytes)
                most_bytes -= len(stored.data)
                if stored.base is None:
                    return KINDS[stored.kind], _patched(stored.data, deltas, most_bytes)
                deltas.append(stored.data)
                base = stored.base
                found = self._offset(pack.with_suffix(".idx"), base) if isinstance(base, bytes) else base
                if found is None:
                    raise BadObject("its base is not there")
                offset = found
        finally:
            os.close(descriptor)
        raise BadObject("too many deltas")

    def _offset(self, index: Path, name: bytes) -> int | None:
        """Where the object lies in the pack, by an index of version 2, which git writes since 2008."""
        descriptor = open_plain(index)
        try:
            head = os.pread(descriptor, 8 + 1024, 0)
            if head[:8] != b"\xfftOc\x00\x00\x00\x02" or len(head) != 8 + 1024:
                raise BadObject("an index of another version")
            counts = [int.from_bytes(head[8 + 4 * at : 12 + 4 * at], "big") for at in range(256)]
            low, high = counts[name[0] - 1] if name[0] else 0, counts[name[0]]
            size = (high - low) * self.name_bytes
            if not 0 <= size <= _MOST_INDEX_BYTES:
                raise BadObject("an index that is too large")
            names = _Rows(os.pread(descriptor, size, 8 + 1024 + low * self.name_bytes), self.name_bytes)
            row = bisect.bisect_left(names, name)
            if row >= len(names) or names[row] != name:
                return None
            offsets = 8 + 1024 + counts[255] * (self.name_bytes + 4)
            offset = int.from_bytes(os.pread(descriptor, 4, offsets + 4 * (low + row)), "big")
            if offset & 0x8000_0000:
                large = offsets + 4 * counts[255] + 8 * (offset & 0x7FFF_FFFF)
                offset = int.from_bytes(os.pread(descriptor, 8, large), "big")
            return offset
        finally:
            os.close(descriptor)


class _Rows(Sequence[bytes]):
    """Rows of equal length in one piece of bytes."""

    def __init__(self, data: bytes, row_bytes: int) -> None:
        self.data, self.row_bytes = data, row_bytes

    def __len__(self) -> int:
        return len(self.data) // self.row_bytes

    def __getitem__(self, at: int) -> bytes:  # type: ignore[override]  # nobody asks for slices
        return self.data[at * self.row_bytes : (at + 1) * self.row_bytes]


def inflated(descriptor: int, offset: int, most_bytes: int) -> bytes:
    """What one zlib stream at that place says. Raises BadObject when it is longer, broken or cut."""
    stream, out = zlib.decompressobj(), b""
    try:
        while not stream.eof:
            data = stream.unconsumed_tail or os.pread(descriptor, _CHUNK_BYTES, offset)
            if not data:
                raise BadObject("cut")
            offset += 0 if stream.unconsumed_tail else len(data)
            out += stream.decompress(data, most_bytes - len(out) + 1)
            if len(out) > most_bytes:
                raise BadObject("too large")
    except zlib.error as exc:
        raise BadObject("broken") from exc
    return out


def _stored_at(descriptor: int, offset: int, name_bytes: int, most_bytes: int) -> _Stored:
    head = os.pread(descriptor, _HEADER_BYTES, offset)
    at, size = 1, 0
    if not head:
        raise BadObject("cut")
    kind, byte = head[0] >> 4 & 7, head[0]
    size, shift = head[0] & 15, 4
    while byte & 0x80:
        byte = _byte(head, at)
        size |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
    base: int | bytes | None = None
    if kind == _OFFSET_DELTA:
        byte = _byte(head, at)
        back, at = byte & 0x7F, at + 1
        while byte & 0x80:
            byte = _byte(head, at)
            back, at = (back + 1) << 7 | byte & 0x7F, at + 1
        if not 0 < back <= offset:
            raise BadObject("a base that lies nowhere")
        base = offset - back
    elif kind == _NAME_DELTA:
        base, at = head[at : at + name_bytes], at + name_bytes
    elif kind not in KINDS:
        raise BadObject("of no known kind")
    if size > most_bytes:
        raise BadObject("too large")
    return _Stored(kind, inflated(descriptor, offset + at, size), base)


def _patched(data: bytes, deltas: list[bytes], most_bytes: int) -> bytes:
    """The base with all deltas, the innermost last in the list."""
    for delta in reversed(deltas):
        _, at = _number(delta, 0)
        size, at = _number(delta, at)
        most_bytes -= size
        if most_bytes < 0:
            raise BadObject("too large")
        data = _with_delta(data, delta, at, size)
    return data


def _with_delta(base: bytes, delta: bytes, at: int, size: int) -> bytes:
    out = bytearray()
    while at < len(delta):
        command, at = delta[at], at + 1
        if command & 0x80:
            numbers = [0, 0]
            for bit in range(7):
                if command >> bit & 1:
                    numbers[bit > 3] |= _byte(delta, at) << 8 * (bit if bit < 4 else bit - 4)
                    at += 1
            start, length = numbers[0], numbers[1] or 0x10000
            piece = base[start : start + length]
        else:
            length, piece = command, delta[at : at + command]
            at += command
        if not length or len(piece) != length or len(out) + length > size:
            raise BadObject("a delta of another base")
        out += piece
    if len(out) != size:
        raise BadObject("a delta of another base")
    return bytes(out)


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = _byte(data, at)
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at


def _byte(data: bytes, at: int) -> int:
    if at >= len(data):
        raise BadObject("cut")
    return data[at]
