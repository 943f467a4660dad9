"""What people said in a Claude Code file, counted apart from the reader; see `utterances.py`."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from typing import Any

from tests.utterances import Utterance, blocks_of, fold, objects, without_programs, words_of

__all__ = ["claude_utterances"]

_ARGS = re.compile(r"<command-args>(.*?)</command-args>", re.DOTALL)
_USER_SAID = "the user said:"


def claude_utterances(data: bytes) -> list[Utterance]:
    """Everything in a person's place, with the reason for what is no person's or was taken back."""
    records = list(objects(data))
    calls = {
        block.get("id"): block
        for record in records
        for block in _blocks(record)
        if record.get("type") == "assistant" and block.get("type") == "tool_use"
    }
    gone = _taken_back(records)
    found: list[Utterance] = []
    before: dict[str, list[Utterance]] = {}
    for record in records:
        said = _of_record(record, calls)
        uuid = str(record.get("uuid"))
        if "uuid" in record and any(not one.listed for one in said):
            if said == before.setdefault(uuid, said) and said is not before[uuid]:
                continue  # records are written again after a compaction
            if said is not before[uuid]:
                said = [one._replace(listed="behind another record of the same id") for one in said]
        found += [one._replace(listed=one.listed or ("taken back" if uuid in gone else "")) for one in said]
    return [*found, *_queued(records)]


def _blocks(record: dict[str, Any]) -> list[dict[str, Any]]:
    message = record.get("message")
    return blocks_of(message.get("content") if isinstance(message, dict) else message)


def _of_record(record: dict[str, Any], calls: dict[Any, dict[str, Any]]) -> list[Utterance]:
    if record.get("type") != "user":
        return []
    blocks = _blocks(record)
    reason = _whose(record)
    beside = any(block.get("type") == "tool_result" for block in blocks)
    found: list[Utterance] = []
    for block in blocks:
        if block.get("type") == "tool_result" and not reason:
            found += _of_result(block, calls.get(block.get("tool_use_id")), record.get("toolUseResult"))
        elif block.get("type") == "text" and isinstance(block.get("text"), str) and block["text"].strip():
            found += _of_text(block["text"], "beside" if beside else "prompt", "" if beside else reason)
            found = [one._replace(listed=one.listed or (reason if not beside else _thread(record))) for one in found]
    return found


def _thread(record: dict[str, Any]) -> str:
    return "to a subagent" if record.get("isSidechain") is True else ""


def _whose(record: dict[str, Any]) -> str:
    """Why a record is not a person's, as it says itself."""
    if record.get("isSidechain") is True:
        return "to a subagent"
    if record.get("isCompactSummary") is True:
        return "digest of a compaction"
    if record.get("isMeta") is True:
        return "meta"
    origin = record.get("origin")
    kind = origin.get("kind") if isinstance(origin, dict) else None
    if kind not in (None, "human") or record.get("promptSource") == "system":
        return "sent by a program"
    return ""


def _of_text(text: str, form: str, reason: str) -> list[Utterance]:
    found = []
    if text.lstrip().startswith("<command-") and (given := _ARGS.search(text)):
        text = text.replace(given[0], "\n")
        if given[1].strip():
            found.append(Utterance("command", given[1].strip(), reason))
    words = without_programs(text)
    if words:
        found.append(Utterance(form, words, reason))
    elif not found:
        found.append(Utterance(form, text, reason or "put there by a program"))
    return found


def _of_result(block: dict[str, Any], call: dict[str, Any] | None, copy: Any) -> list[Utterance]:
    """What a person says in a tool's result."""
    printed = words_of(block.get("content"))
    name = call.get("name") if call else None
    if block.get("is_error") is True and "doesn't want" in printed[:60] and _USER_SAID in printed:
        words = printed.partition(_USER_SAID)[2].partition("\n\nNote: The user's next message")[0]
        if words.strip() and not words.strip().startswith("The user wants to clarify"):
            return [Utterance("rejection", words.strip())]
    if name == "AskUserQuestion" and block.get("is_error") is not True:
        answers = copy.get("answers") if isinstance(copy, dict) else None
        if isinstance(answers, dict):
            given = [value if isinstance(value, str) else "\n".join(value) for value in answers.values()]
            return [Utterance("answer", value) for value in given if value.strip()]
        return [Utterance("answer", value) for value in re.findall(r'"="(.*?)"(?:, "|\. You can)', printed, re.DOTALL)]
    if name == "ExitPlanMode" and printed.startswith("User has approved"):
        return [Utterance("plan", "Approved the plan.")]
    return []


def _queued(records: list[dict[str, Any]]) -> list[Utterance]:
    """What waited in the queue and got no record of its own: by text, as often as it was taken up in either form."""
    waiting: list[str] = []
    removed: Counter[str] = Counter()
    attached: Counter[str] = Counter()
    back: Counter[str] = Counter()
    said: Counter[str] = Counter()
    before: tuple[Counter[str], Counter[str]] = Counter(), Counter()
    texts: dict[str, str] = {}

    def unsaid(one: str) -> bool:
        new = (attached - before[1])[one] - (removed - before[0])[one]
        return bool(without_programs(texts[one])) and new < waiting.count(one)

    for n, record in enumerate(records):
        text = words_of(record.get("content"))
        texts.setdefault(fold(text), text)
        match record.get("type"), record.get("operation"):
            case "queue-operation", "enqueue":
                waiting.append(fold(text))
            case "queue-operation", "dequeue" if waiting:
                one = next(filter(waiting.__contains__, _prompts(records[n:])), waiting[0])
                waiting.remove(one)
            case "queue-operation", "remove":
                one = fold(text) or next(filter(unsaid, waiting), "")
                waiting = _without(waiting, one)
                removed[one] += bool(one)
            case "queue-operation", "popAll":
                for one in [fold(text)] if text and fold(text) in waiting else list(waiting):
                    back[one] += 1
                    waiting = _without(waiting, one)
            case "attachment", _ if (prompt := _attached(record)) is not None:
                texts.setdefault(fold(prompt), prompt)
                attached[fold(prompt)] += 1
            case "assistant", _:  # both forms of one utterance stand in front of the next answer
                said += (removed - before[0]) | (attached - before[1])
                before = removed.copy(), attached.copy()
    said += (removed - before[0]) | (attached - before[1])
    waiting = [one for one in waiting if not (attached[one] and removed[one] < attached[one])]
    listed = [(said, ""), (back, "put back into the editor"), (Counter(waiting), "still waiting in the queue")]
    return [
        one._replace(listed=one.listed or reason)
        for counts, reason in listed
        for key in counts.elements()
        for one in _of_text(texts[key], "meanwhile", reason)
        if key
    ]


def _prompts(records: list[dict[str, Any]]) -> list[str]:
    """The text of the next record in the user's place, if there is one."""
    texts = (fold(words_of(_blocks(record))) for record in records if record.get("type") == "user")
    return list(islice(filter(None, texts), 1))


def _without(waiting: list[str], one: str) -> list[str]:
    at = waiting.index(one) if one in waiting else len(waiting)
    return waiting[:at] + waiting[at + 1 :]


def _attached(record: dict[str, Any]) -> str | None:
    about = record.get("attachment")
    if not isinstance(about, dict) or about.get("type") != "queued_command" or record.get("isSidechain") is True:
        return None
    origin = about.get("origin")
    program = isinstance(origin, dict) and origin.get("kind") not in (None, "human")
    mine = about.get("commandMode") in (None, "prompt") and about.get("isMeta") is not True and not program
    return words_of(about.get("prompt")) if mine else None


def _taken_back(records: list[dict[str, Any]]) -> set[str]:
    """The ids of records in branches that the user left: of prompts behind one record only the last counts, and every one that
    a later prompt still goes on from.
    """
    own: dict[str, dict[str, Any]] = {}
    for record in records:
        if isinstance(record.get("uuid"), str):
            own.setdefault(record["uuid"], record)
    order = {uuid: n for n, uuid in enumerate(own)}
    prompts = [uuid for uuid, record in own.items() if _is_prompt(record)]
    answers = [bool(record.get("parentUuid")) for record in own.values() if record.get("type") == "assistant"]
    linked = 2 * sum(answers) > len(answers)
    behind: dict[str, list[str]] = {}
    for uuid in prompts:
        key = _talk_above(own, uuid)
        if key != "root" or linked:
            behind.setdefault(key, []).append(uuid)
    gone: set[str] = set()
    for rivals in behind.values():
        for one in rivals[:-1]:
            later = [uuid for uuid in prompts if order[uuid] > order[rivals[-1]]]
            if not any(one in _line(own, uuid) for uuid in later):
                gone.add(one)
    return {uuid for uuid in own if gone & set(_line(own, uuid))} if gone else set()


def _is_prompt(record: dict[str, Any]) -> bool:
    if record.get("type") != "user" or _whose(record):
        return False
    blocks = _blocks(record)
    if any(block.get("type") == "tool_result" for block in blocks):
        return False
    text = words_of(blocks)
    return bool(without_programs(text)) or text.lstrip().startswith("<command-")


def _line(own: dict[str, dict[str, Any]], uuid: str) -> list[str]:
    """The record and all above it."""
    found: list[str] = []
    at: Any = uuid
    while isinstance(at, str) and at in own and at not in found[-3:]:
        found.append(at)
        at = own[at].get("parentUuid")
        if len(found) > len(own):
            break
    return found


def _talk_above(own: dict[str, dict[str, Any]], uuid: str) -> str:
    at = own[uuid].get("parentUuid")
    for _ in own:
        if not isinstance(at, str) or at not in own:
            break
        record = own[at]
        injected = record.get("type") == "user" and (_whose(record) or not (_is_prompt(record) or _has_result(record)))
        if record.get("type") in ("user", "assistant") and not injected:
            return at
        if not record.get("parentUuid"):
            return at
        at = record["parentUuid"]
    return at if isinstance(at, str) and at else "root"


def _has_result(record: dict[str, Any]) -> bool:
    return any(block.get("type") == "tool_result" for block in _blocks(record))
