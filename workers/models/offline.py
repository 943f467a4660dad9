"""The offline model: deterministic rules that drive the same pipelines and agents as a real model, with no key and no network.

It extracts only what a user plainly said, verbatim, with confidence up to 0.6 and the tag `offline`. It never stands in for
a model that failed: poor memories written silently would be worse than none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import msgspec
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from lerim_jobs.memory.checks.similarity import stems
from lerim_jobs.memory.search.ranking import words
from workers.cues import candidates, completes, corrects, similarity, user_sentences

__all__ = ["MODEL_NAME", "offline_model"]

MODEL_NAME = "offline-rules"
# Above _SAME only white space or small words differ; below it a number or a name may, which makes it another statement.
_SAME, _DUPLICATE = 0.97, 0.8
_ANSWERED = 0.5
"""At least this share of a question's words must stand in a memory that answers it."""
_ASK = "\n\nRespond with the corresponding output fields"
"""What DSPy's chat adapter writes behind the last field."""
_FIELD = re.compile(r"^\[\[ ## (\w+) ## \]\]$", re.MULTILINE)

_MOST_QUOTED = 3
_DECISIONS = {"add_memory", "update_memory", "supersede_memory", "skip"}

Parts = list[TextPart | ToolCallPart]


def offline_model() -> FunctionModel:
    """A model that answers by rules; the same request always gets the same answer."""
    return FunctionModel(_answer, model_name=MODEL_NAME)


def _answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    tools = {tool.name for tool in info.function_tools}
    for mark, play in _ROLES.items():
        if mark in tools:
            return _response(play(messages, info))
    return _response([TextPart(_pipeline(_prompt(messages)))])


def _response(parts: Parts) -> ModelResponse:
    return ModelResponse(parts=list(parts), model_name=MODEL_NAME, provider_name="offline")


# --- DSPy pipelines --------------------------------------------------------------------------------
def _pipeline(prompt: str) -> str:
    if not _FIELD.search(prompt):
        return "ready"
    fields = _fields(prompt)
    transcript = fields.get("transcript", "")
    if "earlier_summary" in fields:
        return _filled(_summary(transcript, fields["earlier_summary"]))
    found = [
        {key: value for key, value in msgspec.to_builtins(one).items() if key not in ("turn", "said_ms", "speaker")}
        for one in candidates(transcript)
    ]
    told = _summary(transcript, fields["summary_so_far"]) if "summary_so_far" in fields else {}
    return _filled({"candidates": json.dumps(found, ensure_ascii=False), **told})


def _fields(prompt: str) -> dict[str, str]:
    """The input fields of a DSPy chat prompt. Only what stands before the transcript and the last field are looked for by their
    marks, so that marks inside the transcript stay text.
    """
    marks = list(_FIELD.finditer(prompt))
    before = [mark for mark in marks if mark[1] == "said_before"]
    named: dict[str, str] = {}
    for mark, following in zip(marks, [*marks[1:], None], strict=True):
        end = following.start() if following else len(prompt)
        if mark[1] == "transcript":
            end = before[-1].start() if before else prompt.rfind(_ASK)
        named.setdefault(mark[1], prompt[mark.end() : end].strip())
    return named


def _filled(fields: dict[str, str]) -> str:
    parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items()]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def _summary(transcript: str, earlier: str) -> dict[str, str]:
    said = [sentence for sentence in user_sentences(transcript) if len(sentence) >= 8]
    first, last = (said[0], said[-1]) if said else ("A session without words", "")
    body = [earlier] if earlier else [f"It began with: {first}"]
    if last and last != first:
        body.append(f"It ended with: {last}")
    body.append("(Written without a model: the user's own first and last words.)")
    return {"title": first[:80], "summary": "\n".join(dict.fromkeys(body))[:2000]}


# --- agents ----------------------------------------------------------------------------------------
def _lead(messages: list[ModelMessage], info: AgentInfo) -> Parts:
    """Decide every candidate from what the prompt shows, then stop: two calls."""
    if any(name in _DECISIONS for name, _ in _answers(messages)):
        return [TextPart("Every candidate is decided.")]
    prompt = json.loads(_prompt(messages))
    known = {one["memory_id"]: one for one in prompt["memories"]}
    mine = [one for one in known.values() if one["from_this_session"]]
    wanted, taken = prompt["candidates"], set[str]()
    calls: Parts = []
    for number, one in enumerate(wanted):
        stored = [*(known[key] for key in one["nearest"] if key in known), *mine]
        free = [memory for memory in stored if memory["memory_id"] not in taken]
        calls.append(_decision(one, free, wanted[:number], wanted[number + 1 :]))
        taken.add(calls[-1].args_as_dict().get("memory_id", ""))  # type: ignore[union-attr]
    return calls


def _decision(
    candidate: dict[str, Any],
    stored: list[dict[str, Any]],
    earlier: list[dict[str, Any]],
    later: list[dict[str, Any]],
) -> ToolCallPart:
    number, text = candidate["candidate"], _text(candidate)
    if any(similarity(text, _text(other)) >= _SAME for other in earlier):
        return _call("skip", {"candidate": number, "reason": "said twice in this session"})
    if any(corrects(other["body"], candidate["body"]) and other["kind"] == candidate["kind"] for other in later):
        return _call("skip", {"candidate": number, "reason": "taken back later in this session"})
    near = max(stored, key=lambda one: similarity(text, _text(one)), default=None)
    if near is None:
        return _call("add_memory", {"candidate": number, "reason": "not known yet"})
    about = {"candidate": number, "memory_id": near["memory_id"]}
    if similarity(text, _text(near)) >= _SAME:
        return _call("skip", {"candidate": number, "reason": f"known: {near['memory_id']}"})
    if near["kind"] == candidate["kind"] and corrects(candidate["body"], near["body"]):
        return _call("supersede_memory", {**about, "reason": "a later statement that takes it back"})
    if near["kind"] == candidate["kind"] and completes(candidate["body"], near["body"]):
        return _call("update_memory", {**about, "reason": "the same statement with more to it"})
    return _call("add_memory", {"candidate": number, "reason": "not known yet"})


def _explorer(messages: list[ModelMessage], info: AgentInfo) -> Parts:
    answers = _answers(messages)
    if not answers:
        return [_call("search_memories", {"query": _prompt(messages)[:400]})]
    hits = json.loads(answers[-1][1])
    return [TextPart("\n".join(f"{one['memory_id']}: {one['title']}" for one in hits) or "Nothing is known.")]


def _curator(messages: list[ModelMessage], info: AgentInfo) -> Parts:
    """Merge what says the same in nearly the same words; numbers that differ are no duplicate."""
    if _answers(messages):
        return [TextPart("Nothing is left to do.")]
    memories = json.loads(_prompt(messages))["memories"]
    calls: Parts = []
    gone: set[str] = set()
    for one, other in combinations(memories, 2):
        pair = {one["memory_id"], other["memory_id"]}
        alike = one["kind"] == other["kind"] and similarity(_text(one), _text(other)) >= _DUPLICATE
        if alike and not pair & gone and not (corrects(one["body"], other["body"]) or other["by_hand"]):
            gone |= pair
            longer = one if one["by_hand"] else max(one, other, key=lambda memory: len(memory["body"]))
            given = {"survivor": one["memory_id"], "absorbed": [other["memory_id"]], "reason": "the same words"}
            calls.append(_call("merge_memories", {**given, "title": longer["title"], "body": longer["body"]}))
    return [*calls, _call("nothing_left", {})] if calls else [TextPart("Nothing to merge.")]


def _answerer(messages: list[ModelMessage], info: AgentInfo) -> Parts:
    """Nothing of its own: the memories that share most of the question's words, in their own words, or that there are none."""
    answers = _answers(messages)
    question = _prompt(messages)
    if not answers:
        return [_call("search_memories", {"query": question[:400]})]
    asked = stems(" ".join(words(question)))
    hits = [
        (len(asked & stems(_text(one))) / len(asked), one)
        for one in json.loads(answers[0][1])
        if asked and one["kind"] != "summary"
    ]
    best = [one for score, one in sorted(hits, key=lambda hit: -hit[0]) if score >= _ANSWERED][:_MOST_QUOTED]
    lines = [f"{one['title']}: {_quote(one)} [{one['memory_id']}]" for one in best]
    text = "From memory, in its own words:\n" + "\n".join(lines) if lines else "This is not in memory."
    return [_call(info.output_tools[0].name, {"answer": text, "memory_ids": [one["memory_id"] for one in best]})]


def _quote(memory: dict[str, Any]) -> str:
    """What was said last about it; what somebody wrote by hand is its body."""
    return memory["body"] if memory["by_hand"] or not memory["quotes"] else f'"{memory["quotes"][-1]}"'


_ROLES: dict[str, Callable[[list[ModelMessage], AgentInfo], Parts]] = {
    "add_memory": _lead,
    "read_memory": _explorer,
    "merge_memories": _curator,
    "search_memories": _answerer,
}
"""Which agent is asking, told by a tool only that one has."""


def _text(one: dict[str, Any]) -> str:
    return f"{one['title']} {one['body']}"


def _call(name: str, arguments: dict[str, Any]) -> ToolCallPart:
    return ToolCallPart(tool_name=name, args=arguments)


def _prompt(messages: Sequence[ModelMessage]) -> str:
    """The first user prompt."""
    for message in messages:
        for part in message.parts if isinstance(message, ModelRequest) else ():
            if isinstance(part, UserPromptPart) and isinstance(part.content, str):
                return part.content
            if isinstance(part, SystemPromptPart):
                continue
    return ""


def _answers(messages: Sequence[ModelMessage]) -> list[tuple[str, str]]:
    """Tool results so far, as (tool name, text), in order."""
    return list(_returns(messages))


def _returns(messages: Sequence[ModelMessage]) -> Iterator[tuple[str, str]]:
    for message in messages:
        for part in message.parts if isinstance(message, ModelRequest) else ():
            if isinstance(part, ToolReturnPart):
                yield part.tool_name, str(part.content)
