"""The drill's provider: answers as the scripted mind does, unless a fault waits for the next request."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter, deque
from typing import Any

import msgspec

from lerim_jobs.drill.mind import Step, brain, hang, raw, reset, status

__all__ = ["FAULTS", "Provider"]

_HANG_S = 8.0
FAULTS: dict[str, Step] = {
    "provider_429": status(429, retry_after_s=0.2),
    "provider_500": status(500),
    "provider_garbage": raw("<html>gateway</html>"),
    "provider_truncated": raw('{"id": "chatcmpl-1", "choices": [{"mess'),
    "provider_reset": reset(),
    "provider_hang": hang(_HANG_S),
}
MADE_UP = "made_up_quote"


class Provider:
    """`met` counts faults that a request really met."""

    def __init__(self, rng: random.Random, *, delay_s: float) -> None:
        self._rng, self._delay_s = rng, delay_s
        self._waiting: deque[str] = deque()
        self._lock = threading.Lock()
        self.met: Counter[str] = Counter()

    def next_meets(self, kind: str) -> None:
        """The next request meets this fault."""
        self._waiting.append(kind)

    def calm(self) -> None:
        """No more faults."""
        self._waiting.clear()

    def answer(self, request: dict[str, Any]) -> Step:
        """What the model server sends."""
        with self._lock:
            kind = self._waiting.popleft() if self._waiting else ""
            wait_s = self._delay_s * self._rng.uniform(0.3, 1.7)
            if kind in FAULTS:
                self.met[kind] += 1
                return FAULTS[kind]
        step = brain(request)
        if kind == MADE_UP:
            step = self._lied(step)
        return Step(step.kind, step.content, step.calls, step.code, step.headers, wait_s)

    def _lied(self, step: Step) -> Step:
        """An extraction with a candidate that nobody said; anything else passes the lie on to the next request."""
        head, _, rest = step.content.partition("[[ ## candidates ## ]]\n")
        if head or not rest:
            self._waiting.appendleft(MADE_UP)
            return step
        given, mark, behind = rest.partition("\n\n[[ ## ")
        found = json.loads(given)
        lie = f"secret {self.met[MADE_UP]} was never said"
        found.append(
            {
                "kind": "decision",
                "title": lie,
                "body": lie,
                "confidence": 0.9,
                "tags": ["lie"],
                "quote": f"REMEMBER: {lie}",
            }
        )
        self.met[MADE_UP] += 1
        said = msgspec.json.encode(found).decode()
        return Step("text", f"[[ ## candidates ## ]]\n{said}{mark}{behind}")
