"""Sessions that grow: whatever pieces they are read in, the memories are the same; what is in use costs nothing."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lerim_jobs.log.events import ModelCalled
from lerim_jobs.sessions.windows import CHARS_PER_TOKEN
from tests.here import Here
from tests.model_server import ModelServer, Step, text, tools
from tests.transcripts import claude_lines

SESSION = "dddddddd-0000-4000-8000-000000000001"
SUMMARY = "[[ ## title ## ]]\nThe shop\n\n[[ ## summary ## ]]\nThe shop was talked about.\n\n[[ ## completed ## ]]"
ONE_MODEL = "".join(
    f'[roles.{role}]\nprovider = "openai"\nmodel = "one-model"\napi_base = "{{url}}"\n'
    for role in ("lead", "explorer", "extract", "summarize")
)
PLACES = ("tills", "carts", "bills", "labels", "shelves", "parcels", "vouchers", "ledgers", "scales", "doors")
SAYS = [
    part
    for n, place in enumerate(PLACES)
    for part in (
        f"What do you propose for the {place}?",
        f"option {n % 3 + 1} for the {place}",
        f"PLAIN talk about {place} " + "word " * 40,
    )
]


@pytest.fixture
def made(tmp_path: Path, server: ModelServer) -> Iterator[Callable[..., Here]]:
    places: list[Here] = []

    def make(settings: str = "") -> Here:
        place = Here(tmp_path / f"m{len(places)}", url=server.url)
        place.home.config.write_text(ONE_MODEL.format(url=server.url) + settings, "utf-8")
        places.append(place)
        return place

    yield make
    for place in places:
        place.close()


def ideal(request: dict[str, Any]) -> Step:
    """Keeps each approval whose proposal it is shown, wherever that stands; the lead adds every candidate."""
    names = {tool["function"]["name"] for tool in request.get("tools", ())}
    prompt = str(next(one["content"] for one in request["messages"] if one["role"] == "user"))
    if "add_memory" in names:
        if any(one["role"] == "tool" for one in request["messages"]):
            return text("Done.")
        wanted = json.loads(prompt)["candidates"]
        return tools(*(("add_memory", {"candidate": one["candidate"], "reason": "new"}) for one in wanted))
    if "[[ ## earlier_summary ## ]]" in prompt:
        return text(SUMMARY)
    before, _, transcript = prompt.partition("[[ ## transcript ## ]]")
    shown = before.rpartition("[[ ## said_before ## ]]")[2] + transcript
    found = []
    for place in PLACES:
        asked = shown.find(f"propose for the {place}?")
        answer = re.search(r"User: (option \d for the \w+)", shown[asked:]) if asked >= 0 else None
        if answer and f"User: {answer[1]}" in transcript and _is_new(shown, transcript, asked + answer.start()):
            title = f"The {place} take {answer[1][:8]}"
            fields = {"kind": "decision", "title": title, "body": f"{title}.", "confidence": 0.8, "tags": []}
            found.append({**fields, "quote": answer[1]})
    told = SUMMARY if "summary_so_far" in prompt else "[[ ## completed ## ]]"
    return text(f"[[ ## candidates ## ]]\n{json.dumps(found)}\n\n{told}")


def _is_new(shown: str, transcript: str, at: int) -> bool:
    return at >= len(shown) - len(transcript)


def grow(here: Here, lines: list[str]) -> Path:
    folder = here.root / "claude" / "projects" / "shop"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{SESSION}.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def lines_of(here: Here, says: list[str] = SAYS) -> list[str]:
    return claude_lines(SESSION, str(here.project), says)


def calls(here: Here) -> list[ModelCalled]:
    jobs = [f"sync-{n}" for n in range(1, here.numbers + 1)]
    return [one for job in jobs for one in here.events(job, "ModelCalled")]


@pytest.mark.parametrize("pieces", [2, 5, 10])
def test_a_session_gives_the_same_memories_in_pieces_as_at_once(
    made: Callable[..., Here], server: ModelServer, pieces: int
) -> None:
    server.answer = ideal
    whole, parts = made(), made()
    grow(whole, lines_of(whole))
    whole.sync()
    lines = lines_of(parts)
    for piece in range(1, pieces + 1):
        # Cut in the middle of an exchange: the proposal is in one piece, its answer in the next.
        grow(parts, lines[: len(lines) if piece == pieces else len(lines) * piece // pieces // 6 * 6 + 2])
        parts.sync()
    assert [one.title for one in parts.memories()] == [one.title for one in whole.memories()]
    assert len(whole.memories()) == len(PLACES)


def test_a_session_of_one_window_costs_two_calls_and_little_more_than_its_transcript(
    made: Callable[..., Here], server: ModelServer
) -> None:
    server.answer = ideal
    here = made()
    grow(here, lines_of(here))
    here.sync()
    paid = calls(here)
    transcript = sum(len(one) for one in SAYS) + len(SAYS) * len("User: \n\nAssistant: Done: \n\n")
    assert [one.role for one in paid] == ["extract"]  # nothing is stored that a lead would compare
    assert sum(one.tokens_in for one in paid) <= 1.1 * transcript / CHARS_PER_TOKEN + 4000
    other = made()
    grow(other, lines_of(other, SAYS[:12]))
    other.sync()
    grow(other, lines_of(other))
    other.sync()
    paid = other.events("sync-2", "ModelCalled")
    assert [one.role for one in paid] == ["extract", "lead"]
    assert sum(one.tokens_in for one in paid) <= 1.1 * transcript / CHARS_PER_TOKEN + 4000


def test_an_answer_without_a_summary_costs_one_more_call_and_is_kept(
    made: Callable[..., Here], server: ModelServer
) -> None:
    def short(request: dict[str, Any]) -> Step:
        step = ideal(request)
        if "earlier_summary" in str(request["messages"]):
            return step
        return text(step.content.partition("[[ ## title")[0] + "[[ ## completed ## ]]") if step.kind == "text" else step

    server.answer = short
    here = made()
    grow(here, lines_of(here, SAYS[:3]))
    here.sync()
    assert [one.title for one in here.memories()] == ["The tills take option 1"]
    assert [one.role for one in calls(here)][:2] == ["extract", "summarize"]


def now_lines(here: Here, says: list[str]) -> list[str]:
    """The session as if somebody worked in it this minute."""
    stamp = datetime.fromtimestamp(time.time() - 60, UTC).strftime("%Y-%m-%dT%H:%M")
    return [re.sub(r"2026-11-01T10:\d\d", stamp, line) for line in lines_of(here, says)]


def test_ten_scheduled_syncs_while_somebody_works_cost_nothing(made: Callable[..., Here], server: ModelServer) -> None:
    server.answer = ideal
    here = made()
    for n in range(1, 11):
        grow(here, now_lines(here, SAYS[: 3 * n]))
        result = here.sync(settle_ms=30 * 60_000)
        assert result["left"] == {"still in use": 1}
    assert server.requests == []
    assert here.sync()["memories"]["added"] >= len(PLACES)


def test_a_session_still_in_use_is_read_as_far_as_its_windows_are_full(
    made: Callable[..., Here], server: ModelServer
) -> None:
    server.answer = ideal
    sizes = "[roles.extract]\nmax_window_tokens = 600\nwindow_overlap_tokens = 100\n"
    small = ONE_MODEL.format(url=server.url).replace("[roles.extract]\n", sizes)
    here = made()
    here.home.config.write_text(small, "utf-8")
    grow(here, now_lines(here, SAYS))
    first = here.sync(settle_ms=30 * 60_000)
    assert first["taken"] == 1
    assert 0 < len(here.memories()) < len(PLACES)
    again = here.sync(settle_ms=30 * 60_000)
    assert (again["taken"], again["left"]) == (0, {"still in use": 1})
    here.sync()
    assert len(here.memories()) == len(PLACES)


def test_a_session_at_rest_is_taken_by_the_schedule(made: Callable[..., Here], server: ModelServer) -> None:
    server.answer = ideal
    here = made()
    path = grow(here, lines_of(here, SAYS[:3]))
    os.utime(path, (time.time(), time.time()))
    assert here.sync(settle_ms=30 * 60_000)["taken"] == 1
