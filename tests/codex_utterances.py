"""What people said in a Codex rollout, counted apart from the reader; see `utterances.py`."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tests.utterances import Utterance, blocks_of, fold, is_programs, objects, without_programs, words_of

__all__ = ["codex_utterances"]

_REQUEST = "## My request for Codex:"
_EDITOR = "# Context from my IDE setup:"
_FAMILIES = ("item", "event", "completed")


def codex_utterances(data: bytes) -> list[Utterance]:
    """Everything in a person's place; one message is written in up to three families of records."""
    records = list(objects(data))
    if _is_subagents(records):
        return [Utterance("prompt", text, "to a subagent") for _, text, _ in _texts(records) if text]
    found = _answers(records)
    events = any(family != "item" for family, text, _ in _texts(records) if text)
    for stretch in _stretches(records):
        found += _of_stretch(stretch, events=events)
    return _rolled_back(records, found)


def _stretches(records: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The records between one word or deed of the agent and the next: records of one message stand in one."""
    found: list[list[dict[str, Any]]] = [[]]
    for record in records:
        payload = record.get("payload", record)
        kind = payload.get("type") if isinstance(payload, dict) else None
        agents = kind == "message" and payload.get("role") == "assistant"
        if agents or (isinstance(kind, str) and kind.endswith(("_call", "_call_output", "_complete"))):
            found.append([])
        found[-1].append(record)
    return found


def _of_stretch(records: list[dict[str, Any]], *, events: bool) -> list[Utterance]:
    """Each text as often as the family has it that has it most."""
    found: list[Utterance] = []
    families: dict[str, Counter[str]] = {name: Counter() for name in _FAMILIES}
    texts: dict[str, str] = {}
    doubtful: set[str] = set()
    for family, text, raw in _texts(records):
        if not text:
            found.append(Utterance("prompt", raw, "put there by a program"))
            continue
        texts.setdefault(fold(text), text)
        families[family][fold(text)] += 1
        if family == "item" and raw.lstrip().startswith(("<", "# ", "## ", "Warning: ")):
            doubtful.add(fold(text))
    told = families["event"] | families["completed"]
    for key, count in (told | families["item"]).items():
        reason = "put there by a program" if events and key in doubtful and not told[key] else ""
        found += [Utterance("prompt", texts[key], reason)] * count
    return found


def _texts(records: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(family, what is the person's in it, the text) of every message in the user's place."""
    found = []
    for record in records:
        payload = record.get("payload") if isinstance(record.get("payload"), dict) else record
        assert isinstance(payload, dict)
        kind, item = payload.get("type"), payload.get("item")
        if kind == "user_message" and payload.get("kind") in (None, "plain"):
            found.append(("event", payload.get("message")))
        elif kind == "message" and payload.get("role") == "user":
            found.append(("item", payload.get("content")))
        elif kind == "item_completed" and isinstance(item, dict) and item.get("type") == "UserMessage":
            found.append(("completed", item.get("content")))
    return [(family, _own(content), words_of(content)) for family, content in found]


def _own(content: Any) -> str:
    """Part by part, and without what the editor tells in front of the request."""
    parts = []
    for block in blocks_of(content):
        text = block.get("text")
        if not isinstance(text, str) or (is_programs(text) and "</INSTRUCTIONS>" not in text):
            continue
        if text.lstrip().startswith((_EDITOR, _REQUEST)) and _REQUEST in text:
            text = text.partition(_REQUEST)[2]
        parts.append(without_programs(text))
    return "\n".join(filter(None, parts))


def _is_subagents(records: list[dict[str, Any]]) -> bool:
    for record in records:
        if record.get("type") == "session_meta" and isinstance(record.get("payload"), dict):
            source = record["payload"].get("source")
            return isinstance(source, dict) and bool(source.get("subagent"))
    return False


def _answers(records: list[dict[str, Any]]) -> list[Utterance]:
    payloads = [one for record in records if isinstance(one := record.get("payload", record), dict)]
    asked = {one.get("call_id") for one in payloads if one.get("name") == "request_user_input"}
    found = []
    for one in payloads:
        if one.get("type") == "function_call_output" and one.get("call_id") in asked:
            try:
                answers = json.loads(words_of(one.get("output")))["answers"].values()
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            for answer in answers:
                parts = answer.get("answers") if isinstance(answer, dict) else [answer]
                words = "\n".join(part.removeprefix("user_note: ") for part in parts or () if isinstance(part, str))
                found += [Utterance("answer", words)] if words.strip() else []
    return found


def _rolled_back(records: list[dict[str, Any]], found: list[Utterance]) -> list[Utterance]:
    """The last prompts before each rollback are listed: those of the family that the file has most of."""
    counts = Counter(family for family, text, _ in _texts(records) if text)
    family = max(counts, key=lambda name: (counts[name], name == "event"), default="")
    standing: list[str] = []
    gone: Counter[str] = Counter()
    for record in records:
        payload = record.get("payload")
        if isinstance(payload, dict) and payload.get("type") == "thread_rolled_back":
            turns = payload.get("num_turns", 1)
            for _ in range(min(turns, len(standing)) if isinstance(turns, int) else 1):
                gone[standing.pop()] += 1
        standing += [fold(text) for name, text, _ in _texts([record]) if name == family and text]
    listed = []
    for one in reversed(found):
        taken = not one.listed and one.form == "prompt" and gone[fold(one.text)] > 0
        gone[fold(one.text)] -= taken
        listed.append(one._replace(listed="taken back") if taken else one)
    return listed[::-1]
