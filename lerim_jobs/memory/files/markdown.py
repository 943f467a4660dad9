"""A memory as a markdown file: YAML front matter, the body, and the words that prove it."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any, get_args

import msgspec

from lerim_jobs.clock import iso
from lerim_jobs.ids import slug
from lerim_jobs.log.events import MemoryKind
from lerim_jobs.memory.files.front_matter import BadFile, dump, line_of, load
from lerim_jobs.memory.files.markers import PROOF_MARKER, conflict_line, escaped, split_at_proof, unescaped
from lerim_jobs.memory.memory import Memory

__all__ = [
    "ARCHIVED",
    "KINDS",
    "BadFile",
    "Parsed",
    "clean",
    "default_path",
    "one_line",
    "parse",
    "place",
    "proof",
    "render",
]

ARCHIVED = "archived/"
KINDS: tuple[str, ...] = get_args(MemoryKind)
MAX_TITLE, MAX_BODY, MAX_TAGS = 200, 65_536, 32
_FOLDERS = {"decision": "decisions", "summary": "summaries"}
_KIND_OF = {"decisions": "decision", "summaries": "summary", "learnings": "insight"}
_FENCE = "---\n"
_HEADING = re.compile(r"#{1,6}[ \t]+(.+?)[ \t#]*(?:\n|$)")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Parsed(msgspec.Struct, frozen=True):
    """What a person can change in a file, and which memory it is. None: the file does not say.

    `proof` is what stands below the line that opens our part of the file; `undivided` is the body with that line and all
    below it, for a memory that has no proof: then the line is its own.
    """

    memory_id: str | None
    version: int | None
    title: str | None
    body: str
    confidence: float | None = None
    tags: list[str] | None = None
    kind: MemoryKind | None = None
    status: str | None = None
    proof: str = ""
    undivided: str | None = None


def default_path(memory: Memory) -> str:
    """Where the file lies below the memory folder when it is written first; the name then stays for ever."""
    folder = _FOLDERS.get(memory.kind, "learnings")
    day = (iso(memory.begun_ms) or "")[:10].replace("-", "")
    return f"{folder}/{day}-{slug(memory.title)}-{slug(memory.memory_id)[:8]}.md"


def place(path: str) -> tuple[MemoryKind | None, bool]:
    """The kind that a path's folder stands for (None: no folder of memories), and whether it is among the archived."""
    plain = path.removeprefix(ARCHIVED)
    kind: Any = _KIND_OF.get(PurePosixPath(plain).parts[0]) if "/" in plain else None
    return kind, plain != path


def render(memory: Memory) -> bytes:
    """Always the same bytes for the same memory."""
    about: dict[str, Any] = {
        "id": memory.memory_id,
        "kind": memory.kind,
        "title": memory.title,
        "confidence": memory.confidence,
        "tags": memory.tags,
        "status": memory.status,
        "created": iso(memory.begun_ms),
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
    front = dump({key: value for key, value in about.items() if value is not None})
    text = f"{_FENCE}{front}{_FENCE}\n{escaped(clean(memory.body).strip())}\n{proof(memory)}"
    return text.encode("utf-8", "backslashreplace")


def proof(memory: Memory) -> str:
    """Our part of the file: the quotes, or nothing."""
    if not memory.quotes:
        return ""
    parts = [f"\n{PROOF_MARKER}\n"]
    for quote in memory.quotes:
        said = "\n".join(f"> {line}" for line in clean(quote.text).split("\n"))
        when = f", {iso(quote.at_ms)}" if quote.at_ms else ""
        where = one_line(f"{quote.speaker} in {quote.agent} session {quote.session_id}, turn {quote.turn}{when}")
        parts.append(f"\n{said}\n>\n> {where}\n")
    return "".join(parts)


def parse(data: bytes) -> Parsed | BadFile:
    """Read a file that a person may have changed or written. Without front matter it is a title and a body."""
    if b"\0" in data:
        return BadFile(1, "it is not a text file")
    try:
        text = clean(data.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        return BadFile(data.count(b"\n", 0, exc.start) + 1, "it is not UTF-8 text")
    if (line := conflict_line(text)) is not None:
        return BadFile(
            line, "it has conflict markers of git; resolve them, or put a backslash before those you write about"
        )
    if not text.startswith(_FENCE):
        return _written_by_hand({}, unescaped(text.strip()))
    front, fence, rest = f"\n{text[len(_FENCE) :]}".partition(f"\n{_FENCE}")
    if not fence and text.endswith("\n---"):
        front, fence, rest = text[len(_FENCE) - 1 : -len("---")], _FENCE, ""
    if not fence:
        return BadFile(1, "the front matter has no closing '---'")
    front = front.removeprefix("\n")
    about = load(front)
    if isinstance(about, BadFile):
        return about
    given = _checked(about, front)
    if isinstance(given, BadFile):
        return given
    body, below = split_at_proof(rest)
    if below is not None:
        given |= {"proof": unescaped(below), "undivided": unescaped(rest.strip())}
    return _written_by_hand(given, unescaped(body.strip()))


def one_line(text: str) -> str:
    """A title: one line without control characters."""
    return " ".join(clean(text).split())


def clean(text: str) -> str:
    """Line ends as `\\n`, no control characters: they could write anything to a terminal."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _written_by_hand(given: dict[str, Any], body: str) -> Parsed | BadFile:
    """A title that the front matter does not give is the first heading, which then leaves the body."""
    if len(body) > MAX_BODY:
        return BadFile(1, f"its body is longer than {MAX_BODY // 1024} KiB")
    is_new = "memory_id" not in given
    if is_new and "title" not in given and (heading := _HEADING.match(body)):
        title = one_line(heading[1])
        if title and len(title) <= MAX_TITLE:
            given, body = {**given, "title": title}, body[heading.end() :].strip()
    return Parsed(**{"memory_id": None, "version": None, "title": None, **given}, body=body)


def _checked(about: dict[str, str | list[str]], front: str) -> dict[str, Any] | BadFile:
    given: dict[str, Any] = {}
    for key, (name, read, wanted) in _FIELDS.items():
        if key not in about:
            continue
        try:
            given[name] = read(about[key])
        except (ValueError, TypeError):
            return BadFile(line_of(front, key), f"{key!r} must be {wanted}")
    return given


def _text(value: str | list[str], limit: int = MAX_TITLE) -> str:
    if isinstance(value, list) or not (said := one_line(value)) or len(said) > limit:
        raise ValueError
    return said


def _id(value: Any) -> str:
    if not _ID.fullmatch(value):
        raise ValueError
    return str(value)


def _version(value: Any) -> int:
    if len(value) > 9 or not value.isascii() or not value.isdigit():
        raise ValueError
    return int(value)


def _confidence(value: Any) -> float:
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError
    return number


def _tags(value: str | list[str]) -> list[str]:
    items = value.split(",") if isinstance(value, str) else value
    found = list(dict.fromkeys(one_line(item) for item in items if one_line(item)))
    if len(found) > MAX_TAGS or any(len(tag) > MAX_TITLE for tag in found):
        raise ValueError
    return found


def _one_of(*allowed: str) -> Any:
    def read(value: Any) -> str:
        if value not in allowed:
            raise ValueError
        return str(value)

    return read


_FIELDS: dict[str, tuple[str, Any, str]] = {
    "id": ("memory_id", _id, "the id of a memory"),
    "version": ("version", _version, "a number"),
    "title": ("title", _text, f"one line of 1 to {MAX_TITLE} characters"),
    "confidence": ("confidence", _confidence, "a number from 0 to 1"),
    "tags": ("tags", _tags, f"a list of at most {MAX_TAGS} words"),
    "kind": ("kind", _one_of(*KINDS), "one of " + ", ".join(KINDS)),
    "status": ("status", _one_of("active", "archived", "merged"), "active or archived"),
}
