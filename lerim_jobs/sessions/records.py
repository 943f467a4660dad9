"""Bytes of a session file to records: liberal in what it reads, exact about what it could not read.

A line may hold two objects (two writers raced), a BOM, NUL blocks, CRLF, bytes that are not UTF-8, or escaped lone
surrogates; a value may be something other than an object. The fast path decodes a clean line straight into the record
type; anything else goes through the standard library once and comes back as clean JSON, so both paths agree. Nothing a file
holds makes it raise: too deep, too large and unreadable values are counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import IO, Any, TypeVar

import msgspec

__all__ = ["BLOCK_BYTES", "MAX_LINE_BYTES", "blocks", "decode_block", "decode_line", "parse_ms"]

R = TypeVar("R")

MAX_LINE_BYTES = 16 * 1024 * 1024
"""Longer lines are passed over: the longest real ones are pasted images of about 2 MB.

As Python objects a line may take twenty times its length.
"""

BLOCK_BYTES = 64 * 1024
"""Small enough to come from memory that is used again, not mapped anew."""

_decoder = json.JSONDecoder()
_BLANK = b" \t\r\n\x00\xef\xbb\xbf"


def blocks(file: IO[bytes], size_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Lines with their newlines, about `size_bytes` at once; what stands behind the last newline comes by itself, at the end.
    An overlong line comes as as many bytes that say so.
    """
    rest: list[bytes] = []
    held = lost = 0
    while chunk := file.read(size_bytes):
        end = chunk.rfind(b"\n") + 1
        if lost or held + len(chunk) >= MAX_LINE_BYTES:
            first = chunk.find(b"\n") + 1
            rest.append(chunk[:first] if first else chunk)
            held += len(rest[-1])
            if held >= MAX_LINE_BYTES:
                rest, held, lost = [], 0, lost + held
            if not first:
                continue
            yield b"".join(rest) if not lost else _oversized(lost + held - 1)
            rest, held, lost = [], 0, 0
            chunk, end = chunk[first:], max(0, end - first)
        if end:
            yield b"".join([*rest, chunk[:end]]) if rest else chunk[:end]
            rest, held = [], 0
        if end < len(chunk):
            rest.append(chunk[end:])
            held += len(rest[-1])
    if held and not lost:
        yield b"".join(rest)


def decode_block(
    block: bytes,
    decoder: msgspec.json.Decoder[R],
    problems: Counter[str],
    tidy: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> list[list[R]]:
    """The records of each of these lines, as `decode_line` has them."""
    count = block.count(b"\n")
    try:
        if not block.isascii():
            block.decode()  # the decoder leaves parts raw, where bad bytes would surface later
        records = decoder.decode_lines(block)
        if len(records) == count:  # else a line holds several, or several lines hold one
            return [[record] for record in records]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    return [decode_line(line, decoder, problems, tidy) for line in block.removesuffix(b"\n").split(b"\n")]


def _oversized(size_bytes: int) -> bytes:
    return b'{"type":"oversized line"}'.ljust(size_bytes) + b"\n"


def decode_line(
    line: bytes,
    decoder: msgspec.json.Decoder[R],
    problems: Counter[str],
    tidy: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> list[R]:
    """The records of one line; what cannot be read is counted in `problems`.

    `tidy` gives an object that the decoder refused the shape it knows.
    """
    try:
        if not line.isascii():
            line.decode()  # the decoder leaves parts raw, where bad bytes would surface later
        return [decoder.decode(line)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _mended(line.strip(_BLANK), decoder, problems, tidy)


def _mended(
    clean: bytes, decoder: msgspec.json.Decoder[R], problems: Counter[str], tidy: Callable[[Any], dict[str, Any]]
) -> list[R]:
    found = []
    for value in _values(clean, problems):
        if not isinstance(value, dict):
            problems["not an object"] += 1
            continue
        try:
            found.append(decoder.decode(msgspec.json.encode(_without_surrogates(tidy(value)))))
        except (msgspec.MsgspecError, RecursionError, ValueError):
            problems["undecodable"] += 1
    return found


def parse_ms(value: Any) -> int | None:
    """ISO 8601, epoch seconds or epoch milliseconds as milliseconds; None for anything else."""
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
            return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
        except (ValueError, OverflowError):
            return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e14:
        return int(value if value > 1e10 else value * 1000)
    return None


def _values(line: bytes, problems: Counter[str]) -> Iterator[Any]:
    text = line.decode("utf-8", "replace")
    at = 0
    while at < len(text):
        while at < len(text) and text[at] in " \t\r\n\x00\ufeff":
            at += 1
        if at == len(text):
            return
        try:
            value, at = _decoder.raw_decode(text, at)
        except (ValueError, RecursionError):  # also an integer of thousands of digits
            problems["undecodable"] += 1
            return
        yield value


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_without_surrogates(part) for part in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(part) for key, part in value.items()}
    return value
