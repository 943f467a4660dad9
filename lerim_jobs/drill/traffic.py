"""What keeps a drill busy: new and grown sessions, syncs, maintains and questions, all drawn by the seed."""

from __future__ import annotations

import json
import random
import uuid
from pathlib import Path

from lerim_jobs.drill.sandbox import Sandbox

__all__ = ["Traffic"]

_WORDS = "Some words about the shop, the carts and the orders of last week. " * 6


class Traffic:
    """`tick` does one thing; the caller decides how often."""

    def __init__(self, sandbox: Sandbox, rng: random.Random) -> None:
        self._sandbox, self._rng = sandbox, rng
        self._turns: dict[Path, int] = {}
        self.facts = 0
        self.commands = 0

    def tick(self) -> None:
        """Let somebody work with an agent, then mostly sync; sometimes clean up or ask."""
        draw = self._rng.random()
        if draw < 0.7 or self.facts < 5:
            for _ in range(self._rng.randint(1, 2)):
                self._speak()
            self._command("sync", "--window", "all")
        elif draw < 0.82:
            self._command("maintain")
        else:
            self._command("ask", f"Is fact {self._rng.randint(1, self.facts)} kept?", "--project", "shop")

    def last_sync(self) -> None:
        """Whatever was not read yet."""
        self._command("sync", "--window", "all")

    def _command(self, *arguments: str) -> None:
        self.commands += 1
        self._sandbox.lerim(*arguments, "--no-wait", "--json")

    def _speak(self) -> None:
        grown = self._turns and self._rng.random() < 0.35
        path = self._rng.choice(list(self._turns)) if grown else self._new()
        first = self._turns.setdefault(path, 0)
        said = self._rng.randint(1, 4)
        with path.open("a", encoding="utf-8") as file:
            for n in range(first, first + said):
                self.facts += 1
                file.writelines(f"{line}\n" for line in self._exchange(path.stem, n))
        self._turns[path] = first + said

    def _new(self) -> Path:
        return self._sandbox.sessions / f"{uuid.UUID(int=self._rng.getrandbits(128), version=4)}.jsonl"

    def _exchange(self, session_id: str, n: int) -> list[str]:
        said = f"REMEMBER: fact {self.facts} is kept. {_WORDS}"
        answer = [{"type": "text", "text": f"Understood, point {n} is done."}]
        messages = [
            ("user", {"role": "user", "content": said}),
            ("assistant", {"role": "assistant", "content": answer}),
        ]
        return [
            json.dumps(
                {
                    "type": kind,
                    "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{session_id}/{n}/{kind}")),
                    "sessionId": session_id,
                    "timestamp": f"2026-01-{1 + n // 60 % 28:02d}T10:{n % 60:02d}:00.000Z",
                    "cwd": str(self._sandbox.project),
                    "version": "2.1.0",
                    "isSidechain": False,
                    "message": message,
                }
            )
            for kind, message in messages
        ]
