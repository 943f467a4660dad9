"""A memory as a markdown file: YAML front matter, the body, and the words that prove it."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from lerim_jobs.clock import iso
from lerim_jobs.ids import slug
from lerim_jobs.memory.memory import Memory

__all__ = ["BadFile", "Parsed", "default_path", "parse", "render"]

_FOLDERS = {"decision": "decisions", "summary": "summaries"}
_FENCE = "---\n"
_PROOF = "\n<!-- proof: everything below is written by lerim -->\n"


class Parsed(msgspec.Struct, frozen=True):
    """What a person can change in a file, and which memory it is."""

    memory_id: str
    version: int
    title: str
    body: str
    confidence: float
    tags: list[str]


class BadFile(msgspec.Struct, frozen=True):
    """A file that cannot be read as a memory: the line (from 1) and what is wrong."""

    line: int
    problem: str


def default_path(memory: Memory) -> str:
    """Where the file lies below the memory folder when it is written first; the name then stays for ever."""
    folder = _FOLDERS.get(memory.kind, "learnings")
    day = (iso(memory.created_ms) or "")[:10].replace("-", "")
    return f"{folder}/{day}-{slug(memory.title)}-{memory.memory_id[:8]}.md"


def render(memory: Memory) -> bytes:
    """Always the same bytes for the same memory."""
    about: dict[str, Any] = {
        "id": memory.memory_id,
        "kind": memory.kind,
        "title": memory.title,
        "confidence": memory.confidence,
        "tags": memory.tags,
        "status": memory.status,
        "created": iso(memory.created_ms),
        "updated": iso(memory.updated_ms),
        "version": memory.version,
        "agent": memory.agent,
        "session": memory.session_id,
        "job": memory.job_id,
        "trace": memory.trace_id,
        "span": memory.span_id,
        "model": memory.model,
        "merged_into": memory.merged_into,
    }
    given = {key: value for key, value in about.items() if value is not None}
    front = yaml.safe_dump(given, sort_keys=False, allow_unicode=True, width=10_000)
    return f"{_FENCE}{front}{_FENCE}\n{memory.body.strip()}\n{_proof(memory)}".encode()


def parse(data: bytes) -> Parsed | BadFile:
    """Read a file that a person may have changed."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").lstrip("\ufeff")
    if not text.startswith(_FENCE):
        return BadFile(1, "it does not begin with '---'")
    front, fence, rest = text[len(_FENCE) :].partition(f"\n{_FENCE}")
    if not fence:
        return BadFile(1, "the front matter has no closing '---'")
    try:
        about = yaml.safe_load(front)
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        return BadFile(mark.line + 2 if mark else 2, f"not valid YAML: {getattr(exc, 'problem', None) or 'unreadable'}")
    if not isinstance(about, dict):
        return BadFile(2, "the front matter is not a list of 'key: value' lines")
    return _checked(about, front, rest.partition(_PROOF)[0].strip())


def _checked(about: dict[str, Any], front: str, body: str) -> Parsed | BadFile:
    wanted: list[tuple[str, Any]] = [
        ("id", str),
        ("title", str),
        ("confidence", (int, float)),
        ("tags", list),
        ("version", int),
    ]
    for key, kind in wanted:
        if not isinstance(about.get(key), kind) or isinstance(about.get(key), bool):
            return BadFile(_line_of(front, key), f"{key!r} is missing or of the wrong type")
    if not 0 <= about["confidence"] <= 1:
        return BadFile(_line_of(front, "confidence"), "'confidence' must be between 0 and 1")
    tags = [str(tag) for tag in about["tags"]]
    title = " ".join(about["title"].split())
    return Parsed(about["id"], about["version"], title, body, float(about["confidence"]), tags)


def _line_of(front: str, key: str) -> int:
    lines = front.splitlines()
    return next((number for number, line in enumerate(lines, 2) if line.startswith(f"{key}:")), 2)


def _proof(memory: Memory) -> str:
    if not memory.quotes:
        return ""
    parts = [_PROOF]
    for quote in memory.quotes:
        said = "\n".join(f"> {line}" for line in quote.text.splitlines())
        when = f", {iso(quote.at_ms)}" if quote.at_ms else ""
        parts.append(
            f"\n{said}\n>\n> {quote.speaker} in {quote.agent} session {quote.session_id}, turn {quote.turn}{when}\n"
        )
    return "".join(parts)
