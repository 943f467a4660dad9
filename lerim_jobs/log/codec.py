"""Events to JSON and back: checked types, lifts from older schemas, unknown future events kept as they are."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, TypeVar, cast

import msgspec

from lerim_jobs.errors import BadEvent, UnreadableEvent
from lerim_jobs.log.events import EVENTS, SCHEMA, Event

__all__ = ["LIFTS", "Recorded", "encode", "encode_checked", "schema_of"]

E = TypeVar("E", bound=Event)

LIFTS: dict[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""(event name, schema) -> the same data one schema later. Pure functions only."""

_encoder = msgspec.json.Encoder()
_decoders = {name: msgspec.json.Decoder(kind) for name, kind in EVENTS.items()}


def schema_of(name: str) -> int:
    """The schema number events of this name are written with."""
    return SCHEMA.get(name, 1)


def encode(event: Event) -> bytes:
    """The event's fields as one JSON object."""
    return _encoder.encode(event)


def encode_checked(event: Event) -> bytes:
    """`encode` for what is stored for ever: read back before it is written. Raises BadEvent naming event and field."""
    name = type(event).__name__
    if name not in _decoders:
        raise BadEvent(f"{name} is in no list of events: nothing could read it again")
    try:
        data = _encoder.encode(event)
    except (TypeError, ValueError) as exc:
        raise BadEvent(f"{name} cannot be written: {exc} - at `$.{_unwritable(event)}`") from exc
    try:
        _decoders[name].decode(data)
    except msgspec.DecodeError as exc:
        raise BadEvent(f"{name} could not be read again, so it was not written: {exc}") from exc
    return data


def _unwritable(event: Event) -> str:
    for name in event.__struct_fields__:
        try:
            _encoder.encode(getattr(event, name))
        except (TypeError, ValueError):
            return name
    return ""


class Recorded(msgspec.Struct, frozen=True):
    """One row of the log. `position` orders all events, `version` those of one stream, both from 1."""

    position: int
    id: str
    stream: str
    version: int
    type: str
    schema: int
    data: bytes
    meta: dict[str, Any]
    at_ms: int

    @property
    def event(self) -> Event | None:
        """The typed event; None for an event that only a newer version knows. Raises UnreadableEvent."""
        decoder = _decoders.get(self.type)
        if decoder is None or self.schema > schema_of(self.type):
            return None
        try:
            if self.schema == schema_of(self.type):
                return decoder.decode(self.data)
            return msgspec.convert(_lifted(self), EVENTS[self.type])
        except (msgspec.DecodeError, KeyError) as exc:
            raise UnreadableEvent(
                f"event {self.position} ({self.type} in {self.stream!r}) cannot be read: {exc}"
            ) from exc

    def as_(self, kind: builtins.type[E]) -> E:
        """The event as `kind`; the caller knows the type."""
        return cast(E, self.event)


def _lifted(row: Recorded) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.json.decode(row.data)
    for schema in range(row.schema, schema_of(row.type)):
        data = LIFTS[(row.type, schema)](data)
    return data
