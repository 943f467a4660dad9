"""Bytes of a session file to records: liberal in what it reads, exact about what it could not read.

A line may hold two objects (two writers raced), a BOM, NUL blocks, CRLF, bytes that are not UTF-8, or escaped lone
surrogates; a value may be something other than an object. The fast path decodes a clean line straight into the record
type; anything else goes through the standard library once and comes back as clean JSON, so both paths agree.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, Any, TypeVar

import msgspec

__all__ = ["MAX_LINE_BYTES", "decode_line", "lines", "parse_ms"]

R = TypeVar("R")

MAX_LINE_BYTES = 32 * 1024 * 1024
"""Longer lines are passed over: the longest real ones are pasted images of about 2 MB."""

_decoder = json.JSONDecoder()
_BLANK = b" \t\r\n\x00\xef\xbb\xbf"


def lines(file: IO[bytes]) -> Iterator[bytes]:
    """Lines with their newline, the last one perhaps without; an overlong one comes as an empty line's worth of nothing."""
    while line := file.readline(MAX_LINE_BYTES):
        if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
            yield line
            continue
        size = len(line)
        while (more := file.readline(MAX_LINE_BYTES)) and not more.endswith(b"\n"):
            size += len(more)
        yield b'{"type":"oversized line"}' + b" " * (size + len(more) - 26) + b"\n"


def decode_line(line: bytes, decoder: msgspec.json.Decoder[R], problems: Counter[str]) -> list[R]:
    """The records of one line; what cannot be read is counted in `problems`."""
    clean = line.strip(_BLANK)
    if not clean:
        return []
    try:
        if not clean.isascii():
            clean.decode()  # the decoder leaves parts raw, where bad bytes would surface later
        return [decoder.decode(clean)]
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = []
        for value in _values(clean, problems):
            if isinstance(value, dict):
                try:
                    found.append(decoder.decode(msgspec.json.encode(_without_surrogates(value))))
                except msgspec.DecodeError:
                    problems["undecodable"] += 1
            else:
                problems["not an object"] += 1
        return found


def parse_ms(value: Any) -> int | None:
    """ISO 8601, epoch seconds or epoch milliseconds as milliseconds; None for anything else."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return int(value if value > 1e10 else value * 1000) if 0 < value < 1e14 else None
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            return None
        return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
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
        except (json.JSONDecodeError, RecursionError):
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
