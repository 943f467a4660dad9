"""The calls of tools that have no result yet, and what a result says that is a person's answer.

Asked are only results of the very call: who prints the same sentence elsewhere answers nothing.
"""

from __future__ import annotations

from typing import Any

import msgspec

from lerim_jobs.sessions import replies
from lerim_jobs.sessions.parts import BEYOND_CHARS
from lerim_jobs.sessions.replies import ASKS, PLANS, Reply
from lerim_jobs.sessions.secrets import plain, redact
from lerim_jobs.sessions.transcript import Form

__all__ = ["Call", "Calls", "Result"]

_MAX_OPEN, _MAX_REMEMBERED = 500, 8
_CALL_CHARS = 1000
"""Of a call that was refused so much is kept beside the user's words."""


class Call(msgspec.Struct):
    """An open call; `text` is what it asks or proposes as a person sees it, or the start of its input."""

    name: str
    text: str
    questions: dict[str, str] = {}


class Result(msgspec.Struct):
    """What a result holds: `printed` is the tool's, `replies` are the user's, `shown` is a plan that was not seen before."""

    printed: str
    replies: list[tuple[Form, Reply]] = []
    shown: str = ""
    answers_chars: int | None = None


class Calls:
    """`state` is what `remembered` gave after an earlier reading."""

    def __init__(self, state: Any = None) -> None:
        self._open: dict[str, Call] = {key: Call(*call) for key, call in (state or {}).items()}

    def remembered(self) -> dict[str, Any]:
        """What a later reading needs, without secrets."""
        last = list(self._open.items())[-_MAX_REMEMBERED:]
        return {key: _redacted(call) for key, call in last}

    def begin(self, key: Any, name: str, given: str) -> str:
        """Note a call; returns what it asks or proposes, whole, and an empty text for any other tool."""
        asked: dict[str, str] = {}
        text = shown = ""
        if name in ASKS or name in PLANS:
            try:
                found = msgspec.json.decode(given)
            except (msgspec.DecodeError, RecursionError):
                found = None
            if name in ASKS:
                asked = replies.questions(found)
                text = shown = "\n\n".join(asked.values())
            elif isinstance(found, dict) and isinstance(found.get("plan"), str):
                text = shown = found["plan"].strip()
        if not shown:
            text = f"{name}: {given[: _CALL_CHARS + BEYOND_CHARS]}"
        if isinstance(key, str):
            if len(self._open) >= _MAX_OPEN:
                del self._open[next(iter(self._open))]
            self._open[key] = Call(name, text, asked)
        return shown

    def name(self, key: Any) -> str:
        """The name of the tool that was called; empty for an unknown call."""
        call = self._open.get(key) if isinstance(key, str) else None
        return call.name if call else ""

    def asks(self, key: Any) -> bool:
        """Whether the call asks the user for something, or is not known."""
        if not isinstance(key, str):
            return False
        call = self._open.get(key)
        return call is None or call.name in ASKS or call.name in PLANS

    def end(self, key: Any) -> Call | None:
        """A call that has its result."""
        return self._open.pop(key, None) if isinstance(key, str) else None

    def answered(self, key: Any, printed: str, structured: Any, *, refused: bool, denied: bool) -> Result:
        """What a result holds. `structured`: the program's own copy; `denied`: the user may have refused the call."""
        call = self.end(key)
        if refused:
            return self._refused(call, printed) if denied else Result(printed)
        name = call.name if call else ""
        if name in PLANS and call is not None:
            proposed = "" if call.text.startswith(f"{name}: ") else call.text
            found = replies.plan(proposed, printed, structured)
            if found is None:
                return Result(printed)
            shown = "" if found.answers == proposed else found.answers
            return Result(printed, [("plan", found)], shown)
        # Of a call that the file does not show only the program's own copy is believed.
        known = name in ASKS or (call is None and isinstance(structured, dict) and "questions" in structured)
        given = replies.answers(call.questions if call else {}, printed, structured) if known else []
        return Result(printed, [("answer", one) for one in given])

    def answered_by_id(self, key: Any, printed: str) -> list[Reply]:
        """The user's answers to a question of Codex's; none in the result of any other tool."""
        call = self.end(key)
        return replies.codex_answers(call.questions, printed) if call and call.name in ASKS else []

    def _refused(self, call: Call | None, printed: str) -> Result:
        found = replies.refusal(printed)
        if found is None:
            return Result(printed)
        sentence, words = found
        answers = replies.clarified(words)
        if answers is not None:
            asked = call.questions if call else {}
            kept = [Reply(answer, asked.get(question, question)) for question, answer in answers if answer]
            return Result(sentence, [("answer", one) for one in kept])
        if call is not None and (call.name in ASKS or call.name in PLANS):
            return Result(sentence, [("rejection", Reply(words, call.text))])
        return Result(sentence, [("rejection", Reply(words, call.text if call else ""))], answers_chars=_CALL_CHARS)


def _redacted(call: Call) -> list[Any]:
    def clean(text: str) -> str:
        return redact(plain(text))[0]

    # Keys of questions tell which answer belongs to which: their words, where the file gives no id.
    return [call.name, clean(call.text), {clean(key): clean(value) for key, value in call.questions.items()}]
