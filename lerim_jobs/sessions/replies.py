"""What a person answers an agent's program with: choices in a question tool, an approved plan, words of a refusal.

The program writes these as a tool's result. They count only in the result of the call that asked, and in the program's own
sentences: a tool that prints the same says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

__all__ = ["APPROVED", "ASKS", "PLANS", "Reply", "answers", "codex_answers", "plan", "questions", "refusal"]

ASKS = frozenset(("AskUserQuestion", "request_user_input"))
"""Tools with which an agent asks a person."""
PLANS = frozenset(("ExitPlanMode", "exit_plan_mode"))
"""Tools with which an agent proposes a plan."""
APPROVED = "Approved the plan."
"""What stands for the click of a person who types nothing."""

_ANSWERED = ("User has answered your questions:", "Your questions have been answered:")
_ANSWERED_END = re.compile(r"\.?\s*You can now continue with (?:the user's|these) answers in mind\.?\s*\Z")
_PAIR_END = r'"(?=(?: user notes: | notes: | selected preview:|, "|\.?\s*\Z))'
_NOTES = re.compile(r"\s(?:user )?notes: (.*)\Z", re.DOTALL)
_ASKED_LINE = re.compile(r'^- "(.*?)"\n +Answer: (.*?)(?=\n- "|\n\n|\Z)', re.MULTILINE | re.DOTALL)
_REFUSED = re.compile(
    r"(The user doesn't want to (?:proceed with this tool use|take this action right now)\."
    r"|Permission for this tool use was denied\.)"
    r"(?:(?!\n).){0,400}?[Tt]he user said:[ \n](.*)",
    re.DOTALL,
)
_MEMORY_NOTE = "\n\nNote: The user's next message may contain a correction or preference."
_CLARIFY = "The user wants to clarify these questions."
_PROVIDED = "The user has indicated they have provided enough answers for the plan interview."
_PLAN = re.compile(r"^## Approved Plan( \(edited by user\))?:\n", re.MULTILINE)
_USER_NOTE = "user_note: "


class Reply(NamedTuple):
    """A person's words, and the question with its choices that they answer."""

    text: str
    answers: str


def questions(given: Any) -> dict[str, str]:
    """The questions of a question tool's input, each whole with its choices: by id where it has one, else by its words."""
    asked = given.get("questions") if isinstance(given, dict) else None
    found = {}
    for one in asked if isinstance(asked, list) else [given]:
        words = _text(one.get("question") or one.get("prompt")) if isinstance(one, dict) else ""
        if words:
            found[_text(one.get("id")) or words] = "\n".join([words, *_choices(one.get("options"))])
    return found


def answers(asked: Mapping[str, str], printed: str, structured: Any) -> list[Reply]:
    """What the user answered to AskUserQuestion, question by question; nothing for one he left out.

    `printed` is the result's text, `structured` the program's own copy of it.
    """
    given = structured.get("answers") if isinstance(structured, dict) else None
    if isinstance(given, dict):
        notes = structured.get("annotations")
        asked = asked or questions(structured)
        found = {_text(question): _given(value) for question, value in given.items()}
        for question, about in notes.items() if isinstance(notes, dict) else ():
            if isinstance(about, dict) and (note := _text(about.get("notes"))):
                found[question] = "\n".join(filter(None, (found.get(question, ""), note)))
    elif start := next((one for one in _ANSWERED if printed.startswith(one)), None):
        found = _spoken(_ANSWERED_END.sub("", printed[len(start) :].strip()), asked)
    else:
        return []
    return [Reply(words, asked.get(question, question)) for question, words in found.items() if words]


def codex_answers(asked: Mapping[str, str], printed: str) -> list[Reply]:
    """What the user answered to request_user_input."""
    try:
        given = msgspec.json.decode(printed)
    except (msgspec.DecodeError, RecursionError):
        chosen = [one for one in asked.values() if printed.strip() in one.splitlines()]
        return [Reply(printed.strip(), chosen[0])] if chosen else []
    by_id = given.get("answers") if isinstance(given, dict) else None
    replies = []
    for key, value in by_id.items() if isinstance(by_id, dict) else ():
        words = _given(value.get("answers") if isinstance(value, dict) else value)
        if words:
            replies.append(
                Reply(words, asked.get(key) or (next(iter(asked.values())) if len(asked) == 1 else _text(key)))
            )
    return replies


def plan(proposed: str, printed: str, structured: Any) -> Reply | None:
    """The approval of a plan and the plan as it was approved; None when it was not. Lines that the user put into it are his."""
    if not printed.startswith("User has approved"):
        return None
    heading = _PLAN.search(printed)
    known = structured.get("plan") if isinstance(structured, dict) else None
    approved = (known if isinstance(known, str) else printed[heading.end() :] if heading else proposed).strip()
    if not approved:
        return None
    marked = (heading is not None and bool(heading[1])) or (
        isinstance(structured, dict) and structured.get("planWasEdited")
    )
    before = {line.strip() for line in proposed.splitlines()}
    own = [line for line in approved.splitlines() if line.strip() and line.strip() not in before] if proposed else []
    return Reply("\n".join([APPROVED, *own]) if marked else APPROVED, approved)


def refusal(printed: str) -> tuple[str, str] | None:
    """The program's sentence about a refused call, and the user's words; None where he said nothing."""
    found = _REFUSED.match(printed)
    if not found or not (words := found[2].partition(_MEMORY_NOTE)[0].strip()):
        return None
    return printed[: found.start(2)].strip(), words


def clarified(words: str) -> list[tuple[str, str]] | None:
    """Where a refusal of questions was written by the program: the answers in it, by question; None for a person's words."""
    if not words.startswith((_CLARIFY, _PROVIDED)):
        return None
    return [(question, answer.strip()) for question, answer in _ASKED_LINE.findall(words)]


def _choices(options: Any) -> list[str]:
    lines = []
    for one in options if isinstance(options, list) else ():
        label = _text(one.get("label")) if isinstance(one, dict) else _text(one)
        about = _text(one.get("description")) if isinstance(one, dict) else ""
        if label:
            lines.append(f"- {label}: {about}" if about else f"- {label}")
    return lines


def _spoken(text: str, asked: Mapping[str, str]) -> dict[str, str]:
    """The answers in `"question"="answer", "question"="answer"`: questions are known, answers may hold anything."""
    starts = sorted((at, question) for question in asked if (at := text.find(f'"{question}"=')) >= 0)
    if not starts:
        pairs = re.findall(rf'"((?:[^"]|"(?!=))*)"="(.*?){_PAIR_END}', text, re.DOTALL) if not asked else []
        return {question: answer.strip() for question, answer in pairs}
    found = {}
    for (at, question), (end, _) in zip(starts, [*starts[1:], (len(text), "")], strict=True):
        part = text[at + len(question) + 3 : end].rstrip().removesuffix(",").strip()
        note = _NOTES.search(part) if not part.endswith('"') else None
        answer = (part[: note.start()] if note else part).partition('" selected preview:')[0].strip()
        answer = "" if answer == "(no option selected)" else answer.removeprefix('"').removesuffix('"').strip()
        found[question] = "\n".join(filter(None, (answer, note[1].strip() if note else "")))
    return found


def _given(value: Any) -> str:
    """An answer: words, or several choices."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, Sequence):
        return "\n".join(one.removeprefix(_USER_NOTE).strip() for one in value if isinstance(one, str)).strip()
    return ""


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""
