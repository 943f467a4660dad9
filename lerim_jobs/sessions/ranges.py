"""Ranges of turn numbers, `first <= n < end`: sorted, apart from each other, none empty."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Range", "both", "holds", "joined", "minus", "size"]

Range = tuple[int, int]


def size(ranges: Iterable[Range]) -> int:
    """How many turns."""
    return sum(end - first for first, end in ranges)


def holds(ranges: Iterable[Range], n: int) -> bool:
    """Whether the turn is in one of them."""
    return any(first <= n < end for first, end in ranges)


def both(ranges: Iterable[Range], window: Range) -> list[Range]:
    """What of the ranges lies in the window."""
    cut = ((max(first, window[0]), min(end, window[1])) for first, end in ranges)
    return [(first, end) for first, end in cut if first < end]


def minus(ranges: Iterable[Range], window: Range) -> list[Range]:
    """What of the ranges lies outside the window."""
    parts = [part for first, end in ranges for part in ((first, min(end, window[0])), (max(first, window[1]), end))]
    return [(first, end) for first, end in parts if first < end]


def joined(ranges: Iterable[Range]) -> list[Range]:
    """The same turns with touching ranges made one."""
    out: list[Range] = []
    for first, end in sorted(ranges):
        if out and first <= out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        elif first < end:
            out.append((first, end))
    return out
