"""Identifiers: random where nothing may collide, derived where a repeat must be refused."""

from __future__ import annotations

import hashlib
import secrets
import time
import unicodedata

__all__ = ["derived", "digest", "job_id", "slug", "span_id", "trace_id"]


def digest(data: bytes | str) -> str:
    """SHA-256 as 64 hex digits."""
    return hashlib.sha256(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data).hexdigest()


def derived(*parts: str, length: int = 16) -> str:
    """A stable id from its parts, `length` hex digits."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:length]


def job_id(kind: str) -> str:
    """`sync-20260131-120000-1a2b3c`: sorts by time, readable in a list."""
    return f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def trace_id() -> str:
    """32 hex digits, never all zero."""
    return secrets.token_hex(16)


def span_id(trace: str, *name: str) -> str:
    """The 16-hex-digit id of a reserved span: derived, so whoever needs it knows it without asking."""
    return derived("span", trace, *name)


def slug(text: str, *, limit: int = 60) -> str:
    """Words of any script in lower case joined by hyphens, composed (NFC); never empty, never a path.

    At most `limit` characters and half as many bytes more, so that it fits into a file's name wherever it is.
    """
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    words = "-".join("".join(char if _in_name(char) else " " for char in plain if not _unseen(char)).split())
    cut = words[:limit].encode()[: limit * 3 // 2].decode("utf-8", "ignore")
    while cut != words and cut and unicodedata.category(words[len(cut)])[0] == "M":
        cut = cut[:-1]  # no letter without the signs that belong to it
    return cut.strip("-") or "memory"


def _in_name(char: str) -> bool:
    return char.isalnum() or unicodedata.category(char)[0] == "M"


def _unseen(char: str) -> bool:
    return unicodedata.category(char) == "Cf"
