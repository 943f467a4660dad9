"""Answers of a scripted model server that are held back, so that a test knows what is under way while it looks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tests.model_server import Step, brain

__all__ = ["Held"]

_LONGEST_S = 120.0


class Held:
    """`server.answer = Held()`: calls wait until `release`, or until `opens_at` of them wait at once; later ones are let through.

    `only` says which calls are held; `answers` makes what they get.
    """

    def __init__(
        self,
        *,
        opens_at: int = 0,
        only: Callable[[dict[str, Any]], bool] = lambda request: True,
        answers: Callable[[dict[str, Any]], Step] = brain,
    ) -> None:
        self.waiting = 0
        self._opens_at, self._only, self._answers = opens_at, only, answers
        self._lock, self._open = threading.Lock(), threading.Event()

    def __call__(self, request: dict[str, Any]) -> Step:
        if self._only(request):
            with self._lock:
                self.waiting += 1
                if self.waiting == self._opens_at:
                    self._open.set()
            self._open.wait(_LONGEST_S)
        return self._answers(request)

    def release(self) -> None:
        """Let all go on."""
        self._open.set()

    @property
    def is_open(self) -> bool:
        return self._open.is_set()
