"""What a person typed in a message of a Codex rollout, and which records of one file are the same message."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, NamedTuple

from lerim_jobs.ids import derived
from lerim_jobs.sessions.secrets import plain, redact
from lerim_jobs.sessions.typed import bare, typed

__all__ = ["Known", "Message", "Twins", "prompt"]

_IDE = "# Context from my IDE setup:"
_REQUEST = "## My request for Codex:"
_PASSED = "internal_chat_message_metadata_passthrough"
_PROGRAM = re.compile(
    r"<|#+\s|Warning: |Another language model started to solve this problem|Review the current code changes"
)
"""How programs begin; `#2 yes` is a person's."""
_PICTURE = re.compile(r"\s*</?image\b[^<>]*>\s*")
_LONG_CHARS = 40
"""Nobody types so much twice by chance."""


_Held = tuple[str, int | None]
"""A text and its time."""


class Message(NamedTuple):
    """The typed words of a message, empty where a program wrote all of it. `looks_typed`: nothing in it looks like a program's.

    `picture`: it holds a picture. `told`: the record itself says which parts a person typed.
    """

    text: str
    looks_typed: bool = False
    picture: bool = False
    told: bool = False


def prompt(record: dict[str, Any], field: str) -> Message:
    """What the person typed in a message, part by part."""
    parts = record.get(field)
    parts = [{"text": parts}] if isinstance(parts, str) else parts if isinstance(parts, list) else []
    about = record.get(_PASSED)
    kinds = (about if isinstance(about, dict) else record).get("content_item_kinds")
    kinds = kinds if isinstance(kinds, list) and len(kinds) == len(parts) else []
    texts = [
        part["text"]
        for n, part in enumerate(parts)
        if isinstance(part, dict)
        and isinstance(part.get("text"), str)
        and (not kinds or str(kinds[n]).startswith("user."))
        and not _PICTURE.fullmatch(part["text"])
    ]
    picture = bool(record.get("images") or record.get("local_images"))
    words = [one.text for text in texts for one in typed(_without_editor(text))]
    looks_typed = not any(_PROGRAM.match(bare(text)) for text in texts)
    return Message("\n".join(words), looks_typed, picture, bool(kinds))


class Known(NamedTuple):
    """Whether a record says something new. `held`: it waits for its twin; `late`: held ones that have none."""

    new: bool
    held: bool
    late: list[_Held]


class Twins:
    """Counts how often each text was written in which kind of record since the agent's last word, of long texts since ever.

    Once a file is seen to write its events, an item alone is most often a program's: it waits for the event, and is the
    user's only when it looks like nothing else. `state` is what `remembered` gave after an earlier reading.
    """

    def __init__(self, state: Any = None, *, stood_in: Any = None, events: Any = False) -> None:
        state = state or {}
        self._counts: Counter[str] = Counter(state.get("counts", {}))
        self._kept: Counter[str] = Counter(state.get("kept", {}))
        self._events = bool(state.get("events") or events)
        self._held: list[_Held] = [(text, at_ms) for text, at_ms in state.get("held", ())]
        self._earlier: Counter[str] = Counter(stood_in or {})
        """Items that an earlier version kept, whose events may follow."""

    def remembered(self) -> dict[str, Any]:
        """What a later reading needs, without secrets; empty for nothing."""
        held = [[redact(plain(text))[0], at_ms] for text, at_ms in self._held]
        state = {"counts": dict(self._counts), "kept": dict(self._kept), "events": self._events, "held": held}
        return {name: value for name, value in state.items() if value}

    def known(self, message: Message, written: str, at_ms: int | None) -> Known:
        """Whether a record of the kind `written` says something new."""
        self._events = self._events or written != "item"
        if not message.text:
            return Known(False, False, [])
        if written != "item" and self._earlier and self._earlier[derived(message.text)] > 0:
            self._earlier[derived(message.text)] -= 1
            return Known(False, False, [])
        words = _words(message.text)
        self._counts[f"{written} {words}"] += 1
        if self._counts[f"{written} {words}"] <= self._kept[words]:
            return Known(False, False, [])
        if written != "item":
            self._held = [one for one in self._held if _words(one[0]) != words]
        late = self.pending()
        if written == "item" and self._events and not message.told:
            if message.looks_typed:
                self._held.append((message.text, at_ms))
            return Known(False, message.looks_typed, late)
        self._kept[words] += 1
        return Known(True, False, late)

    def pending(self) -> list[_Held]:
        """Held messages, which are held no longer."""
        held, self._held = self._held, []
        for text, _ in held:
            self._kept[_words(text)] += 1
        return held

    def answered(self) -> list[_Held]:
        """The agent has said or done something: short texts that come now are new ones. Returns the pending ones."""
        held = self.pending()
        if self._counts:
            self._counts = Counter({key: n for key, n in self._counts.items() if key.endswith("+")})
            self._kept = Counter({key: n for key, n in self._kept.items() if key.endswith("+")})
        return held


def _words(text: str) -> str:
    """An id of the words, which tells whether they are many."""
    return derived("".join(text.split()), length=12) + ("+" if len(text) >= _LONG_CHARS else "")


def _without_editor(text: str) -> str:
    """Without the editor's context in front of what was typed."""
    text = bare(text)
    if _REQUEST in text and text.startswith((_IDE, _REQUEST)):
        return text.partition(_REQUEST)[2].strip()
    return text
