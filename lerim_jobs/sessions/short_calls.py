"""How a call of a tool is shown to a model: its values, without the frame of JSON around them."""

from __future__ import annotations

import json
import re

__all__ = ["PRINTED", "short_call"]

PRINTED = "error: "
"""How a tool turn begins that is what a tool printed; all others are calls, which the agent wrote."""
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)("|\\?$)(\s*:)?', re.DOTALL)
_SHELLS = re.compile(r"^(?:/(?:usr/)?bin/)?(?:ba|z|da)?sh(?: -\w+)? ")
_CODE_KEYS = frozenset(("old_string", "new_string", "content", "new_source", "newText", "oldText"))
"""Keys whose values are text of a file; which file it is says enough."""


def short_call(text: str, cwd: str = "") -> str:
    """A call, `Bash: {"command": "ls", …`, by its values; the folder that all paths begin with is left out. What a tool printed
    stays as it is.
    """
    name, colon, given = text.partition(": ")
    if not colon or text.startswith(PRINTED):
        return text
    words = _values(given) if given.lstrip().startswith(("{", "[")) else given
    if cwd:
        words = re.sub(rf"{re.escape(cwd.rstrip('/'))}(?:/|(?=\W|$))", "", words)
    words = _SHELLS.sub("", " ".join(words.split()))
    short = f"{name}: {words}" if words else name
    return short if len(short) < len(text) else text


def _values(given: str) -> str:
    """The texts in a piece of JSON, perhaps cut off; keys, numbers and switches are left out."""
    kept, key = [], ""
    for match in _STRING.finditer(given):
        if match[3]:
            key = match[1]
        elif key not in _CODE_KEYS:
            kept.append(_plain(match[1]))
    return " ".join(kept)


def _plain(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text  # cut off within an escape
