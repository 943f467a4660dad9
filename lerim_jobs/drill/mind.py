"""The mind of the scripted model server: plays every role well enough for whole jobs.

Extraction finds sentences marked `REMEMBER:`, the lead adds what a search does not find, the answerer cites its first hit.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["Step", "brain", "drip", "hang", "raw", "reset", "status", "text", "tools"]


@dataclass(frozen=True)
class Step:
    """One answer. `kind`: text, tools, status, raw or reset. `drip_s`: so long one space comes after another before it."""

    kind: str
    content: str = ""
    calls: tuple[tuple[str, Any], ...] = ()
    code: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    wait_s: float = 0.0
    drip_s: float = 0.0


def text(content: str, *, wait_s: float = 0.0) -> Step:
    """A plain answer."""
    return Step("text", content=content, wait_s=wait_s)


def tools(*calls: tuple[str, Any], wait_s: float = 0.0) -> Step:
    """Tool calls as (name, arguments); arguments given as str are sent as they are, valid or not."""
    return Step("tools", calls=calls, wait_s=wait_s)


def status(code: int, *, retry_after_s: float | None = None, error_code: str | None = None) -> Step:
    """An HTTP error with an OpenAI-like body."""
    headers = (("retry-after", str(retry_after_s)),) if retry_after_s is not None else ()
    body = {"error": {"message": f"scripted {code}", "type": "scripted", "code": error_code}}
    return Step("status", content=json.dumps(body), code=code, headers=headers)


def raw(body: str) -> Step:
    """HTTP 200 with any body."""
    return Step("raw", content=body)


def hang(wait_s: float) -> Step:
    """Silence, then an empty answer."""
    return Step("raw", content="{}", wait_s=wait_s)


def drip(step: Step, drip_s: float) -> Step:
    """The answer behind so many seconds of padding, as providers send it to keep a line open."""
    return replace(step, drip_s=drip_s)


def reset() -> Step:
    """A TCP reset instead of an answer."""
    return Step("reset")


def brain(request: dict[str, Any]) -> Step:
    """Plays the role that the request's tools and fields show."""
    names = {tool["function"]["name"] for tool in request.get("tools", ())}
    results = [message for message in request["messages"] if message["role"] == "tool"]
    prompt = next(_words(message) for message in request["messages"] if message["role"] == "user")
    if "add_memory" in names:
        return _lead(json.loads(prompt)["candidates"], results)
    if "read_memory" in names:
        return text("Nothing more is known.") if results else tools(("search_memories", {"query": prompt}))
    if "merge_memories" in names:
        return text("Nothing to do.")
    if "search_memories" in names:
        return _answerer(prompt, results, names)
    return _pipeline(prompt)


def _words(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _pipeline(prompt: str) -> Step:
    summary = "[[ ## title ## ]]\nWork on the shop\n\n[[ ## summary ## ]]\nThe shop was worked on.\n\n"
    if "[[ ## earlier_summary ## ]]" in prompt:
        return text(f"{summary}[[ ## completed ## ]]")
    transcript = prompt.partition("[[ ## transcript ## ]]")[2].rpartition("[[ ## said_before ## ]]")[0]
    found = [
        {
            "kind": "decision",
            "title": said.strip()[:90],
            "body": said.strip(),
            "confidence": 0.8,
            "tags": ["shop"],
            "quote": f"REMEMBER: {said.strip()}",
        }
        for said in re.findall(r"REMEMBER: ([^.\n]*)", transcript)
    ]
    told = summary if "[[ ## summary_so_far ## ]]" in prompt else ""
    return text(f"[[ ## candidates ## ]]\n{json.dumps(found)}\n\n{told}[[ ## completed ## ]]")


def _lead(wanted: list[dict[str, Any]], results: list[dict[str, Any]]) -> Step:
    if not results:
        first = wanted[0]["title"]
        return tools(("search_memories", {"query": first}), ("explore", {"question": f"What is known about {first}?"}))
    if len(results) > 2:
        return text("All decided.")
    known = json.dumps(results)
    decisions = [
        ("skip", {"candidate": one["candidate"], "reason": "known"})
        if one["title"] in known
        else ("add_memory", {"candidate": one["candidate"], "reason": "new"})
        for one in wanted
    ]
    return tools(*decisions)


def _answerer(prompt: str, results: list[dict[str, Any]], names: set[str]) -> Step:
    if not results:
        return tools(("search_memories", {"query": prompt}))
    hits = json.loads(_words(results[0]))
    output = next(name for name in names if name.startswith("final_result"))
    if not hits:
        return tools((output, {"answer": "This is not in memory.", "memory_ids": []}))
    return tools((output, {"answer": hits[0]["body"], "memory_ids": [hits[0]["memory_id"]]}))
