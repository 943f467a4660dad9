"""Cutting a transcript into windows a model can take. Tokens are counted as 3.5 characters each, of what a model is shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec

from lerim_jobs.sessions.compaction import compact, shortened
from lerim_jobs.sessions.transcript import Turn, render

__all__ = ["CHARS_PER_TOKEN", "Window", "cut"]

CHARS_PER_TOKEN = 3.5


class Window(NamedTuple):
    """Turns `turn_from <= n < turn_to`: the first from character `char_from` on, the last before `char_to`, 0 for its end.

    A turn longer than a window is spread over several.
    """

    turn_from: int
    turn_to: int
    char_from: int = 0
    char_to: int = 0

    def of(self, turns: Iterable[Turn]) -> list[Turn]:
        """The turns that are in it, the first and the last one perhaps only in part; nothing of a text that is gone."""
        inside = [self._part(turn) for turn in turns if self.turn_from <= turn.n < self.turn_to]
        return [turn for turn in inside if turn.text]

    def text(self, turns: Iterable[Turn], *, cwd: str = "") -> str:
        """What a model is shown; `cwd` is the folder the session ran in."""
        return render(compact(self.of(turns), cwd))

    def _part(self, turn: Turn) -> Turn:
        start = self.char_from if turn.n == self.turn_from else 0
        end = self.char_to if turn.n == self.turn_to - 1 else 0
        return msgspec.structs.replace(turn, text=turn.text[start : end or None]) if start or end else turn


class _Piece(msgspec.Struct, frozen=True, gc=False):
    """A turn, or a part of one that is longer than a window; `size` is its length as it is shown."""

    n: int
    size: int
    start: int = 0
    end: int = 0


def cut(turns: Iterable[Turn], *, max_tokens: int, overlap_tokens: int, cwd: str = "") -> list[Window]:
    """Windows of at most `max_tokens`, each beginning with the last turns of the one before as far as they fit in
    `overlap_tokens`. Every turn is in at least one; no turns give no windows. One turn at a time is held in memory.
    """
    limit, overlap = int(max_tokens * CHARS_PER_TOKEN), int(overlap_tokens * CHARS_PER_TOKEN)
    windows: list[Window] = []
    group: list[_Piece] = []
    size = 0
    for piece in (piece for turn in turns for piece in _pieces(shortened(turn, cwd), limit)):
        if group and size + piece.size > limit:
            windows.append(_window(group))
            group = _last(group, min(overlap, limit - piece.size))
            size = sum(one.size for one in group)
        group.append(piece)
        size += piece.size
    return [*windows, _window(group)] if group else windows


def _pieces(turn: Turn, limit: int) -> list[_Piece]:
    """The turn, or where it is longer than a window the parts of it."""
    size = _length(turn)
    if size <= limit:
        return [_Piece(turn.n, size)]
    note = size - _length(msgspec.structs.replace(turn, form="", answers=""))  # it stands below every part
    room = max(1, limit // 2, limit - 16 - note)
    cuts = range(room, len(turn.text), room)
    return [
        _Piece(turn.n, _length(msgspec.structs.replace(turn, text=turn.text[start : end or None])), start, end)
        for start, end in zip((0, *cuts), (*cuts, 0), strict=True)
    ]


def _window(group: list[_Piece]) -> Window:
    return Window(group[0].n, group[-1].n + 1, group[0].start, group[-1].end)


def _last(group: list[_Piece], room: int) -> list[_Piece]:
    kept: list[_Piece] = []
    for piece in reversed(group):
        room -= piece.size
        if room < 0:
            break
        kept.insert(0, piece)
    return kept


def _length(turn: Turn) -> int:
    """With its label, its indented lines and the blank line behind it."""
    return len(render([turn])) + 2
