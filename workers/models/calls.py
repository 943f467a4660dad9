"""What is known of a model call when it is over, and the journal that keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

__all__ = ["CallFailed", "Called", "Journal", "Presumed"]


class Called(msgspec.Struct, frozen=True):
    """An answered call. Tokens as the provider counted them; `cost_usd` None: the price is unknown."""

    role: str
    request_hash: str
    occurrence: int
    model_asked: str
    model: str
    provider: str
    tokens_in: int
    tokens_out: int
    duration_ms: int
    cache_read_tokens: int = 0
    cost_usd: float | None = None
    failed: list[dict[str, str]] = []


class CallFailed(msgspec.Struct, frozen=True):
    """A call that no model answered."""

    role: str
    model_asked: str
    error_type: str
    duration_ms: int
    failed: list[dict[str, str]] = []
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None
    """What answers that could not be used were charged with; None without any, or when the price is unknown."""


class Presumed(msgspec.Struct, frozen=True):
    """A request whose bill nobody knows, and the most it may cost; `tokens` count where `usd` is None."""

    role: str
    model: str
    provider: str
    error_type: str
    usd: float | None
    tokens: int


class Journal(Protocol):
    """Where answers are kept."""

    def find(self, request_hash: str, occurrence: int) -> bytes | None:
        """The stored answer to exactly this request, or None."""
        ...

    def admit(self, wish: Mapping[str, Any], request_hash: str, occurrence: int) -> str | float:
        """Reserve for a call and return the reservation's key, or the seconds to wait.

        Raises Parked, ConflictError (the claim is lost) and AlreadyAnswered.
        """
        ...

    def give_back(self, keys: Sequence[str]) -> None:
        """Give reservations of requests that cost nothing back."""
        ...

    def record(self, call: Called, answer: bytes, held: Sequence[str] = ()) -> None:
        """Store an answer and settle its reservations; when this returns it survives a crash."""
        ...

    def failed(self, call: CallFailed, held: Sequence[str] = ()) -> None:
        """Note a call without an answer, and settle its reservations."""
        ...

    def presume(self, bill: Presumed, held: Sequence[str]) -> None:
        """Book a request that may have cost something in the place of its reservation."""
        ...
