"""The YAML between the two `---` lines: written always alike, read without ever trusting it.

Everything is read as text: `title: yes` is the word "yes" and `title: 2026-01-31` no date. Anchors and aliases, which can blow
up a few lines to gigabytes, and deep nesting are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import yaml

__all__ = ["BadFile", "dump", "line_of", "load"]

MAX_BYTES = 32_768
_MAX_DEPTH = 4
_LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 _./()+-]*")
_TIME_OR_ID = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
_OTHER_TYPES = {"yes", "no", "y", "n", "true", "false", "on", "off", "null"}
_NOT_IN_YAML = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


class BadFile(msgspec.Struct, frozen=True):
    """A file that cannot be read as a memory: the line (from 1) and what is wrong."""

    line: int
    problem: str


def dump(values: Mapping[str, str | float | Sequence[str]]) -> str:
    """`key: value` lines, lists as items below their key."""
    lines: list[str] = []
    for key, value in values.items():
        if isinstance(value, str):
            lines.append(f"{key}: {_scalar(value)}\n")
        elif isinstance(value, int | float):
            lines.append(f"{key}: {value}\n")
        else:
            lines.append(f"{key}:\n" if value else f"{key}: []\n")
            lines += [f"- {_scalar(item)}\n" for item in value]
    return "".join(lines)


def load(text: str) -> dict[str, str | list[str]] | BadFile:
    """Keys with a text or a list of texts. Line numbers of problems count the opening `---` as line 1."""
    if len(text) > MAX_BYTES:
        return BadFile(1, f"the front matter is longer than {MAX_BYTES // 1024} KiB")
    try:
        if problem := _unsafe(text):
            return problem
        about = yaml.load(text, Loader=_LOADER)  # noqa: S506 # it makes nothing but texts, lists and dicts
    except yaml.YAMLError as exc:
        at = getattr(exc, "problem_mark", None)
        said = getattr(exc, "problem", None) or getattr(exc, "reason", None) or "unreadable"
        line = min(at.line, text.count("\n")) + 2 if at else _line_at(text, exc)
        return BadFile(line, f"not valid YAML: {said}")
    if about in (None, ""):
        return {}
    if not isinstance(about, dict):
        return BadFile(2, "the front matter is not a list of 'key: value' lines")
    return _flat(about, text)


def line_of(text: str, key: str) -> int:
    """Where a key stands, 2 when it does not."""
    lines = text.split("\n")
    return next((number for number, line in enumerate(lines, 2) if line.startswith(f"{key}:")), 2)


def _unsafe(text: str) -> BadFile | None:
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            return BadFile(_line(event), "anchors and aliases are not read")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH:
            return BadFile(_line(event), "it is nested too deeply")
    return None


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 2 if event.start_mark else 2


def _flat(about: dict[Any, Any], text: str) -> dict[str, str | list[str]] | BadFile:
    for key, value in about.items():
        if not isinstance(key, str):
            return BadFile(2, "a key that is no text")
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str) for item in items):
            return BadFile(line_of(text, key), f"{key!r} is neither a text nor a list of texts")
    return about


def _line_at(text: str, exc: yaml.YAMLError) -> int:
    position = getattr(exc, "position", None)
    return text.count("\n", 0, position) + 2 if isinstance(position, int) else 2


def _scalar(text: str) -> str:
    """Bare where every reader agrees that it is a text, else in double quotes as JSON writes them."""
    if (_PLAIN.fullmatch(text) and text[-1] != " " and text.lower() not in _OTHER_TYPES) or _TIME_OR_ID.fullmatch(text):
        return text
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(text, ensure_ascii=False))
