"""Identifiers: random where nothing may collide, derived where a repeat must be refused."""

from __future__ import annotations

import hashlib
import re
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
    """Lower-case ASCII words joined by hyphens; never empty, never a path."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")
    return words[:limit].rstrip("-") or "memory"
