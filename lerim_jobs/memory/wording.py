"""Bringing words from models and transcripts into bounds: printable, one line where one belongs, never endless."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from lerim_jobs.ids import slug

__all__ = ["MAX_QUOTE", "line", "share", "tags", "text"]

MAX_QUOTE = 600
_MAX_TITLE, _MAX_BODY, _MAX_TAGS = 120, 8000, 8


def line(value: str, *, limit: int = _MAX_TITLE) -> str:
    """One printable line."""
    return " ".join(text(value).split())[:limit]


def text(value: str, *, limit: int = _MAX_BODY) -> str:
    """Without control characters, which could hide or fake what a terminal shows."""
    kept = (c for c in value if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co"))
    return "".join(kept).strip()[:limit]


def tags(values: Sequence[str]) -> list[str]:
    """At most eight slugs, each once."""
    return list(dict.fromkeys(slug(tag, limit=30) for tag in values if tag.strip()))[:_MAX_TAGS]


def share(value: float) -> float:
    """Between 0 and 1."""
    return round(min(1.0, max(0.0, value)), 4)
