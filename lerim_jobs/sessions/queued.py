"""What a person types while Claude Code works: it waits in a queue, and the file tells its fate in several forms.

    enqueue, dequeue     it becomes the next prompt, with a record of its own
    enqueue, remove      the running turn takes it up: there is no other record, or a `queued_command` beside it
    enqueue, popAll      it goes back into the editor: nobody said it
Each utterance is kept once. A second form is known as the twin of the first by the queue, or by standing right beside it; the
same words typed once more are said once more.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from lerim_jobs.ids import derived
from lerim_jobs.sessions.secrets import plain, redact
from lerim_jobs.sessions.typed import without_pictures

__all__ = ["Queue", "Waiting"]

_LONG_CHARS = 40
"""Nobody types so much twice by chance."""
_MAX_WAITING = 50


class Waiting(msgspec.Struct):
    """A queued text with the id of its words; the text is empty where a program queued it. `stamp` is the time as the file
    writes it. `said`: the turn has taken it up, as another record says; `old`: and the agent has answered since.
    """

    text: str
    words: str
    stamp: str = ""
    said: bool = False
    old: bool = False


class Queue:
    """The queue as of the last record. `state` is what `remembered` gave after an earlier reading."""

    def __init__(self, state: Any = None) -> None:
        state = state or {}
        self._waiting = [Waiting(*one) for one in state.get("waiting", ())]
        self._removed: Counter[str] = Counter(state.get("removed", {}))
        """Said when it was removed: its attachment may follow."""
        self._beside: Counter[str] = Counter(state.get("beside", {}))
        """Said from the queue, and no answer since: a record of the same words is its twin."""
        self._long: set[str] = set(state.get("long", ()))
        self._recorded: Counter[str] = Counter(state.get("recorded", {}))
        """Said in a record of its own while it waits."""
        self._unstamped: Counter[str] = Counter(state.get("unstamped", {}))

    def remembered(self) -> dict[str, Any]:
        """What a later reading needs, without secrets; empty for nothing."""
        waiting = [[redact(plain(one.text))[0], one.words, one.stamp, one.said, one.old] for one in self._waiting]
        counts = {
            "removed": self._removed,
            "beside": self._beside,
            "recorded": self._recorded,
            "unstamped": self._unstamped,
        }
        kept = {name: {words: n for words, n in count.items() if n > 0} for name, count in counts.items()}
        state = {"waiting": waiting, "long": sorted(self._long), **kept}
        return {name: value for name, value in state.items() if value}

    def enqueue(self, text: str, written: str, stamp: Any) -> None:
        """A text begins to wait, as it is `written` in the file; an empty one for what no person typed."""
        stamp = stamp if isinstance(stamp, str) else ""
        del self._waiting[: 1 - _MAX_WAITING]
        self._waiting.append(Waiting(without_pictures(text), _words(text or written), stamp))

    def delivered(self, written: str) -> None:
        """A record is what a program queued, which waits no longer."""
        found = self._find(written)
        if found is not None and not found.text:
            self._waiting.remove(found)

    def dequeue(self) -> None:
        """The oldest becomes a prompt."""
        if self._waiting:
            self._waiting.pop(0)

    def pop_all(self, written: str) -> int:
        """The text, or all, goes back into the editor; returns how many of a person's do."""
        found = self._find(written)
        back = [found] if found else list(self._waiting)
        for one in back:
            self._waiting.remove(one)
        return sum(1 for one in back if one.text and not one.said)

    def remove(self, text: str, written: str, stamp: Any) -> Waiting | None:
        """The turn takes up a text; returns it unless another record has said it, or no person typed it.

        Where the file does not say which one, it is the oldest of a person's: programs' do not always leave the queue.
        """
        found = self._find(text or written) if written else self._oldest()
        if found is not None:
            self._waiting.remove(found)
        elif text and self._beside[_words(text)] <= 0:
            found = Waiting(text, _words(text), stamp if isinstance(stamp, str) else "")
        if found is None or not found.text or found.said or _taken(self._recorded, found.words):
            return None
        self._removed[found.words] += 1
        return self._said(found)

    def attached(self, text: str) -> bool:
        """Whether a `queued_command` says something new."""
        words = _words(text)
        found = next((one for one in self._waiting if one.words == words and not one.said), None)
        again = found is not None and self._beside[words] <= 0
        if not again and (_taken(self._removed, words) or _taken(self._recorded, words)):
            return False
        if found is not None:
            found.said = True
        self._said(Waiting(text, words))
        return True

    def recorded(self, text: str) -> bool:
        """Whether a record of the user's own says something new, and not what was just said from the queue."""
        if not self._beside and not self._waiting:
            return True
        words = _words(text)
        if _taken(self._beside, words):
            self._long.discard(words)
            return False
        if any(one.words == words and not one.said for one in self._waiting):
            self._recorded[words] += 1
        if self._beside:
            self._beside.clear()
            self._long.clear()
        return True

    def answered(self) -> None:
        """The agent has said something: short words that come now are new ones."""
        if self._beside:
            self._beside = Counter({words: n for words, n in self._beside.items() if words in self._long})
            self._removed = Counter({words: n for words, n in self._removed.items() if words in self._long})
        if self._recorded:
            self._recorded.clear()
        for one in self._waiting:
            one.old = one.said

    def key(self, said: Waiting) -> str:
        """Tells the utterance from others, also in a copy of the file."""
        if said.stamp:
            return derived("queued", said.stamp, said.words)
        self._unstamped[said.words] += 1
        return derived("queued", said.words, str(self._unstamped[said.words]))

    def _said(self, one: Waiting) -> Waiting:
        self._beside[one.words] += 1
        if len(one.text) >= _LONG_CHARS:
            self._long.add(one.words)
        return one

    def _find(self, text: str) -> Waiting | None:
        words = _words(text) if text and self._waiting else None
        found = [one for one in self._waiting if one.words == words]
        return next((one for one in found if not one.old), found[0] if found else None)

    def _oldest(self) -> Waiting | None:
        persons = (one for one in self._waiting if one.text and not one.said)
        return next(persons, self._waiting[0] if self._waiting else None)


def _taken(counts: Counter[str], words: str) -> bool:
    """Whether there was one; it counts no more."""
    if counts[words] <= 0:
        del counts[words]
        return False
    counts[words] -= 1
    return True


def _words(text: str) -> str:
    return derived("".join(text.split()), length=12)
