"""Cutting a transcript into windows a model can take. Tokens are counted as 3.5 characters each."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from lerim_jobs.sessions.transcript import Turn, render

__all__ = ["CHARS_PER_TOKEN", "Window", "cut"]

CHARS_PER_TOKEN = 3.5


class Window(msgspec.Struct, frozen=True):
    """Turns `turn_from <= n < turn_to`, rendered; a turn longer than a window is spread over several."""

    index: int
    turn_from: int
    turn_to: int
    text: str


def cut(turns: Sequence[Turn], *, max_tokens: int, overlap_tokens: int) -> list[Window]:
    """Windows of at most `max_tokens`, each beginning with the last turns of the one before as far as they fit in
    `overlap_tokens`. Every turn is in at least one; no turns give no windows.
    """
    limit, overlap = int(max_tokens * CHARS_PER_TOKEN), int(overlap_tokens * CHARS_PER_TOKEN)
    groups: list[list[Turn]] = []
    group: list[Turn] = []
    size = 0
    for turn in _bounded(turns, limit):
        length = _length(turn)
        if group and size + length > limit:
            groups.append(group)
            group = _last(group, min(overlap, limit - length))
            size = sum(map(_length, group))
        group.append(turn)
        size += length
    if group:
        groups.append(group)
    return [Window(index, group[0].n, group[-1].n + 1, render(group)) for index, group in enumerate(groups)]


def _bounded(turns: Sequence[Turn], limit: int) -> list[Turn]:
    """The turns, each one longer than a window cut into pieces of the same number."""
    room = max(1, limit - 16)
    return [
        turn if _length(turn) <= limit else msgspec.structs.replace(turn, text=turn.text[start : start + room])
        for turn in turns
        for start in (range(0, len(turn.text), room) if _length(turn) > limit else (0,))
    ]


def _last(group: list[Turn], room: int) -> list[Turn]:
    kept: list[Turn] = []
    for turn in reversed(group):
        room -= _length(turn)
        if room < 0:
            break
        kept.insert(0, turn)
    return kept


def _length(turn: Turn) -> int:
    """With its label, its indented lines and the blank line behind it."""
    return len(render([turn])) + 2
