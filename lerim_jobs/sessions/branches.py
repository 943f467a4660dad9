"""Which prompts of a file still stand, and which were taken back: by a rollback, or by going back to an earlier point.

A file that links each record to the one before it (Claude Code) is a tree. Two prompts that follow the same record are a
rewind: the later one takes the earlier one back, with all that came of it. Nothing else is: parallel calls and their results
fork without a prompt, a compaction begins a new root, an interrupted prompt is followed, not replaced. A prompt that goes on in
a branch that seemed taken back shows that both are alive, such as in a session that was resumed twice.
"""

from __future__ import annotations

from typing import Any

from lerim_jobs.ids import derived

__all__ = ["Prompt", "Prompts", "Tree"]

_MAX_REMEMBERED = 200
"""Prompts that a later reading of a growing file can still take back."""
_MAX_PLACES = 50_000
_ROOT = "root"


class Prompt:
    """A prompt and, once something was kept of it or below it, the `key` of the first such piece.

    `under` is the prompt before it in its branch, `follows` are the ids of the records it comes after; `earlier`: it was read
    before this reading.
    """

    __slots__ = ("earlier", "follows", "gone", "key", "under")

    def __init__(self, under: Prompt | None, follows: tuple[str, ...], key: str = "", *, earlier: bool = False) -> None:
        self.under, self.follows, self.key, self.earlier = under, follows, key, earlier
        self.gone = False


class Prompts:
    """The prompts of a file in order. `state` is what `remembered` gave after an earlier reading."""

    def __init__(self, state: Any = None) -> None:
        self.last: Prompt | None = None
        """The prompt that what comes next belongs to."""
        self._all: list[Prompt] = []
        self._behind: dict[str, list[int]] = {}
        """A record -> the places of the prompts that follow it."""
        for key, *follows in state or ():
            self._append(Prompt(self.last, tuple(follows), key, earlier=True))

    def add(self, under: Prompt | None = None, follows: tuple[str, ...] = ()) -> Prompt:
        """A prompt that a person typed."""
        return self._append(Prompt(under, follows))

    def roll_back(self, count: int) -> None:
        """Take the last prompts back."""
        at = len(self._all)
        while count > 0 and at > 0:
            at -= 1
            count -= not self._all[at].gone
            self._all[at].gone = True
        self._look()

    def take_back(self, follows: tuple[str, ...]) -> None:
        """Take back the prompts that follow one of these records, and what came of them."""
        if not any([self._behind.get(record) for record in follows]):
            return
        first = len(self._all)
        for at in {at for record in follows for at in self._behind.get(record, ())}:
            if not self._all[at].gone:
                self._all[at].gone = True
                first = min(first, at)
        for one in self._all[first + 1 :]:
            one.gone = one.gone or (one.under is not None and one.under.gone)
        self._behind.update({record: [] for record in follows})
        self._look()

    def revive(self, prompt: Prompt | None) -> None:
        """The prompt and those before it in its branch stand after all."""
        while prompt is not None and prompt.gone:
            prompt.gone = False
            prompt = prompt.under
        self._look()

    def remembered(self) -> list[list[str]]:
        """What a later reading needs of those that stand."""
        return [[one.key, *one.follows] for one in self._all if not one.gone][-_MAX_REMEMBERED:]

    def withdrawn(self) -> list[tuple[str, str]]:
        """What was taken back of earlier readings: the key of a first piece, and that of the next prompt's, empty for none."""
        earlier = [one for one in self._all if one.earlier and one.key]
        keys = [one.key for one in earlier]
        return [(one.key, "".join(keys[n + 1 : n + 2])) for n, one in enumerate(earlier) if one.gone]

    def _append(self, prompt: Prompt) -> Prompt:
        for record in prompt.follows:
            self._behind.setdefault(record, []).append(len(self._all))
        self._all.append(prompt)
        self.last = prompt
        return prompt

    def _look(self) -> None:
        self.last = next((one for one in reversed(self._all) if not one.gone), None)


class Tree:
    """Where each record of a file stands, by the ids of records. Records of other threads are none of it.

    `linked`: whether answers name the record they follow; None until there was one. Only then a prompt that names none goes back
    to the beginning.
    """

    def __init__(self, prompts: Prompts, *, linked: bool | None) -> None:
        self.prompts, self.linked = prompts, linked
        self._places: dict[str, Prompt | None] = {}
        """A record -> its prompt."""
        self._above: dict[str, str] = {}
        """A record that is no part of the talk -> the record of the talk that it stands at."""

    def note(self, record: str | None, parent: str | None) -> Prompt | None:
        """A record that is no part of the talk, such as a notice or a snapshot; returns the prompt it belongs to."""
        prompt = self._places.get(parent, self.prompts.last) if parent else self.prompts.last
        if record:
            self._above[record] = self._above.get(parent, parent) if parent else record
            self._put(record, prompt)
        return prompt

    def talk(self, record: str | None, parent: str | None) -> Prompt | None:
        """An answer, a call or a result; returns the prompt it belongs to."""
        places = self._places
        prompt = self.prompts.last
        if parent:
            if parent in places:
                prompt = places[parent]
                if self.linked is None:
                    self.linked = True
        else:
            self.linked = False
        if record:
            self._put(record, prompt)
            if record in self._above:
                del self._above[record]
        return prompt

    def prompt(self, record: str | None, parent: str | None) -> Prompt | None:
        """A prompt; takes back those that it replaces."""
        if not record:
            return self.prompts.last
        if record in self._places:  # records are written again after a compaction
            return self._places[record]
        above = self._places.get(parent) if parent else None
        at = self._above.get(parent, parent) if parent else ""
        if not parent:
            follows: tuple[str, ...] = (_ROOT,)
        elif at == parent or not at:
            follows = (_short(parent),)
        else:
            follows = tuple(sorted({_short(at), _short(parent)}))
        if above is not None and above.gone:
            self.prompts.revive(above)
        if parent or self.linked:
            self.prompts.take_back(follows)
        new = self.prompts.add((above or self.prompts.last) if parent else None, follows)
        self._put(record, new)
        return new

    def _put(self, record: str, prompt: Prompt | None) -> None:
        if len(self._places) >= _MAX_PLACES:
            for old in list(self._places)[: _MAX_PLACES // 2]:
                del self._places[old]
                self._above.pop(old, None)
        self._places[record] = prompt


def _short(record: str) -> str:
    return derived(record, length=8)
