"""What every event is."""

from __future__ import annotations

import msgspec

__all__ = ["Event"]


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happened. Fields are JSON-native; times end in `_ms` or `_ns` since the epoch."""
