"""Secrets out of texts, before anything is stored, queued, traced or sent to a model; and characters that only deceive.

A file's texts are looked at together first: what stands in none of them need not be looked for in each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from lerim_jobs.sessions.secret_shapes import SHAPES, SIGNS, SOLID_CHARS, Shape

__all__ = ["plain", "redact", "redact_all"]

# Terminal escapes, NUL, and marks that turn the reading direction: nobody types them, and what is shown is not what is there.
_DECEIVING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """The text without control characters (tab and newline stay) and without direction marks."""
    return _DECEIVING.sub("", text)


def _may_deceive(text: str) -> bool:
    """Whether there is anything but letters, marks, spaces and newlines: a quick look."""
    return not text.replace("\n", "").replace("\t", "").isprintable()


def redact(text: str) -> tuple[str, int]:
    """The text with every secret replaced by `[REDACTED:kind]`, and how many there were."""
    return _without(text, _possible(text))


def redact_all(texts: Sequence[str]) -> tuple[list[str], int]:
    """Every text made plain and redacted, and how many secrets there were in all."""
    together = "\n".join(texts)
    if _may_deceive(together):
        texts = [plain(text) for text in texts]
        together = "\n".join(texts)
    shapes = _possible(together)
    if not shapes or not _without(together, shapes)[1]:  # nothing is found in a part that is not found in all of it
        return list(texts), 0
    cleaned, count = [], 0
    for text in texts:
        lowered = text.lower()
        text, hits = _without(text, [shape for shape in shapes if any(hint in lowered for hint in shape.hints)])
        cleaned.append(text)
        count += hits
    return cleaned, count


def _possible(text: str) -> list[Shape]:
    """The shapes that may be in the text; most texts have none."""
    solid = _solid(text)
    lowered, lowered_solid = text.lower(), solid.lower()
    signs = {sign: sign in text for sign in SIGNS}
    hinted: dict[tuple[tuple[str, ...], bool], bool] = {}
    found = []
    quick: dict[Callable[[str], object], bool] = {}
    """Shapes that share their hints, or what is looked for first, are looked for once."""
    for shape in SHAPES:
        if shape.sign and not signs[shape.sign]:
            continue
        key = shape.hints, shape.solid
        if key not in hinted:
            hinted[key] = _stands(shape.hints, lowered_solid if shape.solid else lowered)
        if not hinted[key] or (shape.gate is not None and not shape.gate(solid)):
            continue
        if shape.quick is not None and shape.quick not in quick:
            quick[shape.quick] = bool(shape.quick(lowered))
        if shape.quick is None or quick[shape.quick] or _is_odd(text):
            found.append(shape)
    return found


def _is_odd(text: str) -> bool:
    """Whether there are letters that are a Latin one when case is ignored, and none in lower case."""
    return "\u0130" in text or "\u017f" in text


def _stands(hints: tuple[str, ...], text: str) -> bool:
    for hint in hints:  # noqa: SIM110 - a generator costs more than it saves
        if hint in text:
            return True
    return False


_SPACES = b" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f"
_OUTLINE = bytes(32 if byte in _SPACES else 120 for byte in range(256))
_RUN = b"x" * SOLID_CHARS


def _solid(text: str) -> str:
    """The unbroken runs of a text, one a line. Rarer kinds of white space do not break them: it is no loss to look at more."""
    data = text.encode("utf-8", "surrogatepass")
    outline = data.translate(_OUTLINE)
    runs = []
    at = outline.find(_RUN)
    while at >= 0:
        end = outline.find(b" ", at)
        runs.append(data[at:] if end < 0 else data[at:end])
        at = outline.find(_RUN, end) if end >= 0 else -1
    return b"\n".join(runs).decode("utf-8", "surrogatepass")


def _without(text: str, shapes: Sequence[Shape]) -> tuple[str, int]:
    count = 0
    for shape in shapes:
        text, hits = _replaced(text, shape)
        count += hits
    return text, count


def _replaced(text: str, shape: Shape) -> tuple[str, int]:
    instead = f"[REDACTED:{shape.kind}]"
    inner = shape.inner
    if inner is None:
        return shape.pattern.subn(instead, text)
    count = 0

    def within(candidate: re.Match[str]) -> str:
        nonlocal count
        rest, hits = inner.subn(instead, candidate[0])
        count += hits
        return rest

    return shape.pattern.sub(within, text), count
