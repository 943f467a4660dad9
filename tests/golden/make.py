"""Writes one row per event type and schema that has none yet. Rows that exist never change: they must decode for ever.

python -m tests.golden.make
"""

from __future__ import annotations

import types
import typing
from pathlib import Path
from typing import Any

import msgspec

from lerim_jobs.log.codec import encode, schema_of
from lerim_jobs.log.events import EVENTS, Event

ROWS = Path(__file__).with_name("events.jsonl")


def sample(kind: Any) -> Any:
    """A value of the type with every field set, so that a lost field shows."""
    origin = typing.get_origin(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = typing.get_type_hints(kind)
        return kind(**{name: sample(hints[name]) for name in kind.__struct_fields__})
    if origin is typing.Literal:
        return typing.get_args(kind)[-1]
    if origin in (typing.Union, types.UnionType):
        return sample(typing.get_args(kind)[0])
    if origin is list:
        return [sample(typing.get_args(kind)[0])]
    if origin is dict:
        return {"a key": sample(typing.get_args(kind)[1])}
    return {str: "text ☃", int: 7, float: 0.5, bool: True, typing.Any: [1, "x"]}[kind]


def main() -> None:
    """Add what is missing."""
    lines = ROWS.read_text("utf-8").splitlines() if ROWS.exists() else []
    known = {(row["type"], row["schema"]) for row in map(msgspec.json.decode, lines)}
    for name, kind in EVENTS.items():
        if (name, schema_of(name)) not in known:
            event: Event = sample(kind)
            row = {"type": name, "schema": schema_of(name), "data": msgspec.json.decode(encode(event))}
            lines.append(msgspec.json.encode(row).decode())
    ROWS.write_text("\n".join(lines) + "\n", "utf-8")


if __name__ == "__main__":
    main()
