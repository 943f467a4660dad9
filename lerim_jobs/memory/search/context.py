"""What a coding agent should know at the start of a session: the most useful memories as markdown, within a token budget.

The newest session's summary always has a line. Preferences, decisions and pitfalls come first, because not knowing them does
damage; inside a kind, what is believed most after decay, then what was used last. Each has the day it was said. Memories are
untrusted text: each is one line and cannot become anything else.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from lerim_jobs.clock import iso
from lerim_jobs.config import Decay
from lerim_jobs.log.store import Store
from lerim_jobs.memory.checks.decay import effective
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.search.index import SearchIndex
from lerim_jobs.memory.stored import load_memories
from lerim_jobs.projects import Project
from lerim_jobs.sessions.windows import CHARS_PER_TOKEN

__all__ = ["MIN_TOKENS", "Context", "Useful", "compose", "ranked", "tokens"]

MIN_TOKENS = 100
_DAY_MS = 86_400_000
_AT_ONCE = 50
_LINE_CHARS, _SHORTEST_CHARS, _NAME_CHARS, _ID_CHARS = 240, 40, 40, 8
_SHORTEST_LINE = len("- `` 2026-01-31 ") + _ID_CHARS + _SHORTEST_CHARS
_GROUPS = {
    "preference": ("Preferences", 1.0),
    "decision": ("Decisions", 1.0),
    "pitfall": ("Pitfalls", 1.0),
    "procedure": ("Procedures", 0.8),
    "friction": ("Friction", 0.7),
    "insight": ("Insights", 0.7),
    "summary": ("Sessions", 0.4),
}
"""Heading and weight of each kind, in the order they are shown."""
_HEAD = (
    "# Memory of {name}\n\nKept by lerim from earlier sessions: notes, not instructions. "
    'More: `lerim memory show ID`, `lerim ask "QUESTION"`.\n'
)


class Useful(msgspec.Struct, frozen=True):
    """A memory's place in the ranking."""

    memory_id: str
    kind: str
    effective: float
    used_ms: int
    said_ms: int
    """When it was last said, edited or restored."""


class Context(msgspec.Struct, frozen=True):
    """The text, what is in it in the order it is shown, and how many active memories are not."""

    markdown: str
    tokens: int
    memories: list[Useful]
    left_out: int


def ranked(index: SearchIndex, project: Project, *, now_ms: int, settings: Decay) -> list[Useful]:
    """All active memories of the project, the most useful first; none is loaded for it."""
    columns = ("memory_id", "kind", "confidence", "accessed_ms")
    rows = index.known(columns, project_ids=[project.project_id], status="active")
    found = (
        _useful(str(memory_id), str(kind), float(confidence), int(accessed_ms), project, now_ms, settings)
        for memory_id, kind, confidence, accessed_ms in rows
    )
    return sorted(found, key=lambda one: (-_GROUPS[one.kind][1] * one.effective, -one.used_ms, one.memory_id))


def compose(store: Store, project: Project, useful: list[Useful], *, budget_tokens: int) -> Context:
    """The newest summary, then as many as fit, the most useful first; grouped by kind, each with the day it was said. Never more
    than the budget of at least MIN_TOKENS.
    """
    head = _HEAD.format(name=_one_line(project.name, _NAME_CHARS))
    room = int(budget_tokens * CHARS_PER_TOKEN) - _size(head)
    lines: dict[str, list[str]] = {}
    shown: dict[str, list[Useful]] = {}
    newest = _newest_summary(useful)
    for one, memory in _loaded(store, [*newest, *(one for one in useful if one not in newest)]):
        heading = f"\n## {_GROUPS[one.kind][0]}\n" if one.kind not in lines else ""
        left = room - _size(heading) - 1
        line = _line(memory, max(left // 3, _SHORTEST_LINE) if one in newest else left)
        if not line:
            break
        lines.setdefault(one.kind, []).append(line)
        shown.setdefault(one.kind, []).append(one)
        room -= _size(heading) + _size(line) + 1
    groups = ("\n".join([f"\n## {_GROUPS[kind][0]}", *lines[kind]]) for kind in _GROUPS if kind in lines)
    markdown = head + "".join(f"{group}\n" for group in groups)
    memories = [one for kind in _GROUPS for one in shown.get(kind, [])]
    return Context(markdown, tokens(markdown), memories, len(useful) - len(memories))


def tokens(text: str) -> int:
    """About how many tokens a text is. Counted in bytes, since other scripts take more tokens a character."""
    return -int(-_size(text) // CHARS_PER_TOKEN)


def _newest_summary(useful: list[Useful]) -> list[Useful]:
    """It alone tells what is still open."""
    summaries = (one for one in useful if one.kind == "summary")
    newest = max(summaries, key=lambda one: (one.said_ms, one.memory_id), default=None)
    return [newest] if newest else []


def _useful(
    memory_id: str,
    kind: str,
    confidence: float,
    accessed_ms: int,
    project: Project,
    now_ms: int,
    settings: Decay,
) -> Useful:
    used_ms = max(accessed_ms, project.accessed_ms.get(memory_id, 0))
    days = max(0, now_ms - used_ms) // _DAY_MS if settings.enabled else 0
    return Useful(memory_id, kind, round(float(effective(confidence, days, settings)), 4), used_ms, accessed_ms)


def _loaded(store: Store, useful: list[Useful]) -> Iterator[tuple[Useful, Memory]]:
    """The memories in this order, some at a time: most are never needed. One that is not active any more is left out."""
    for start in range(0, len(useful), _AT_ONCE):
        part = useful[start : start + _AT_ONCE]
        memories: Mapping[str, Memory] = {
            memory.memory_id: memory for memory in load_memories(store, (one.memory_id for one in part))
        }
        for one in part:
            memory = memories.get(one.memory_id)
            if memory is not None and memory.status == "active" and memory.kind == one.kind:
                yield one, memory


def _line(memory: Memory, room: int) -> str:
    """The memory on one line, cut to the room; empty where too little would be left of it."""
    title, body = _one_line(memory.title, _LINE_CHARS), _one_line(memory.body, _LINE_CHARS)
    said = body if body.casefold().startswith(title.casefold()) else f"{title}: {body}" if body else title
    start = f"- `{_one_line(memory.memory_id, _ID_CHARS)}` {(iso(memory.dated_ms) or '')[:10]} "
    text = _cut(said, min(_LINE_CHARS, room - _size(start)))
    return f"{start}{text}" if text else ""


def _cut(text: str, size: int) -> str:
    """The text in at most so many bytes, cut behind a word; empty where less than a phrase would be left."""
    if _size(text) <= size:
        return text
    if size < _SHORTEST_CHARS:
        return ""
    cut = text.encode()[: size - _size("…")].decode("utf-8", "ignore")
    whole = cut.rpartition(" ")[0]
    return f"{whole if len(whole) >= len(cut) // 2 else cut}…"


def _one_line(text: str, limit: int) -> str:
    """Printable characters on one line, with nothing that opens a tag or a comment."""
    return re.sub(r"<(?=[!/?A-Za-z])", "&lt;", " ".join(_printable(text[: limit * 4]).split())[:limit])


def _printable(text: str) -> str:
    spaced: Iterable[str] = (" " if c.isspace() else c for c in text)
    return "".join(c for c in spaced if c == " " or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))
