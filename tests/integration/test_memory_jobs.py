"""Memories through whole jobs: what agents propose, what the checks let through, what a clean-up does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lerim_jobs.log.events import (
    MemoryAdded,
    MemoryArchived,
    MemoryEdited,
    MemoryReverted,
    ModelCalled,
    ProposalRejected,
    Quote,
    StageFailed,
)
from lerim_jobs.memory.checks.evidence import unsupported
from lerim_jobs.memory.history.provenance import origins
from lerim_jobs.tracing.skeleton.spans import attempt_span_id, skeleton
from tests.here import PROJECT, Here
from tests.model_server import ModelServer, Step, brain, text, tools
from tests.transcripts import claude_lines

ONE, TWO = "cccccccc-0000-4000-8000-000000000001", "cccccccc-0000-4000-8000-000000000002"
Made = Callable[..., Here]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    places: list[Here] = []

    def make(**given: Any) -> Here:
        places.append(Here(tmp_path / f"m{len(places)}", **given))
        return places[-1]

    yield make
    for place in places:
        place.close()


def prompts(server: ModelServer, model: str) -> list[dict[str, Any]]:
    """First user prompts of requests to a model, as JSON."""
    found = []
    for request in server.requests:
        if request["model"] == model:
            content = next(one["content"] for one in request["messages"] if one["role"] == "user")
            found.append(json.loads(content if isinstance(content, str) else content[0]["text"]))
    return found


def candidates(*given: dict[str, Any]) -> Step:
    """An extraction's answer."""
    filled = [{"kind": "decision", "confidence": 0.8, "tags": [], "body": one["title"], **one} for one in given]
    return text(f"[[ ## candidates ## ]]\n{json.dumps(filled)}\n\n[[ ## completed ## ]]")


def added(memory_id: str, title: str, *, body: str = "", kind: Any = "insight", by_hand: bool = False) -> MemoryAdded:
    quotes = [] if by_hand else [Quote(title, "s0", "session-codex-0", "codex", 0, "user")]
    return MemoryAdded(memory_id, PROJECT, kind, title, body or title, 0.7, quotes=quotes, by_hand=by_hand)


# --- sync ------------------------------------------------------------------------------------------
def test_the_same_session_three_times_and_by_force_gives_nothing_new(made: Made) -> None:
    here = made()
    said = ["We decided to keep carts in Redis.", "Please always run the linter before a commit."]
    here.session(ONE, said)
    assert here.sync()["memories"]["added"] == 2
    for force in (False, False, True, True):
        again = here.sync(force=force)
        assert [again["memories"][name] for name in ("added", "updated", "merged", "archived")] == [0, 0, 0, 0]
        assert len(here.memories()) == 2
    assert unsupported(here.store) == (3, [])


def test_a_forced_session_makes_no_duplicates_even_with_other_words(made: Made, server: ModelServer) -> None:
    here = made(url=server.url)
    here.session(ONE, ["REMEMBER: carts live in Redis."])
    here.sync()
    quote = "REMEMBER: carts live in Redis."
    server.script(candidates({"title": "Storage of baskets", "quote": quote}), model="extract-model")
    server.script(tools(("add_memory", {"candidate": 0, "reason": "new"})), text("Done."), model="lead-model")
    job_id, again = here.run("sync", force=True)
    assert (again["memories"]["added"], again["memories"]["rejected"], len(here.memories())) == (0, 1, 1)
    (refused,) = here.events(job_id, "ProposalRejected")
    assert refused.reason == f"it says the same as {here.memories()[0].memory_id}"


def test_a_grown_session_corrects_its_own_earlier_memory(made: Made) -> None:
    here = made()
    path = here.session(ONE, ["We decided to use Postgres for the orders."])
    here.sync()
    (first,) = here.memories()
    new = claude_lines(ONE, str(here.project), ["No, let's use SQLite for the orders instead of Postgres."], start=1)
    path.write_text(path.read_text() + "\n".join(new) + "\n")
    grown = here.sync()
    assert (grown["memories"]["added"], grown["memories"]["archived"]) == (1, 1)
    (now,) = here.memories()
    assert "SQLite" in now.title
    (old,) = here.memories("archived")
    assert (old.memory_id, old.reason.startswith(f"superseded by {now.memory_id}")) == (first.memory_id, True)
    assert len({row.at_ms for one in (now, old) for row in here.store.read(f"memory-{one.memory_id}")[-1:]}) == 1
    # Extracted once more, the sentence that was taken back stays taken back.
    here.sync(force=True)
    assert [one.memory_id for one in here.memories()] == [now.memory_id]


def test_the_lead_sees_the_nearest_memories_with_their_quotes_and_needs_no_search(
    made: Made, server: ModelServer
) -> None:
    here = made(url=server.url)
    path = here.session(ONE, ["REMEMBER: carts live in Redis.", "REMEMBER: deploy on Mondays."])
    here.sync()
    carts = next(one for one in here.memories() if "carts" in one.title)
    server.reset()
    server.script(
        tools(("supersede_memory", {"candidate": 0, "memory_id": carts.memory_id, "reason": "moved"})),
        text("Done."),
        model="lead-model",
    )
    new = claude_lines(ONE, str(here.project), ["REMEMBER: carts live in Postgres now."], start=2)
    path.write_text(path.read_text() + "\n".join(new) + "\n")
    job_id, result = here.run("sync")
    (prompt, *_) = prompts(server, "lead-model")
    assert carts.memory_id in prompt["candidates"][0]["nearest"]
    shown = {one["memory_id"]: one for one in prompt["memories"]}
    assert shown[carts.memory_id]["quotes"] == ["REMEMBER: carts live in Redis"]
    assert all(one["from_this_session"] for one in shown.values())
    assert len(shown) == 2
    assert server.asked("lead-model") == 1
    assert sorted(one.title for one in here.memories()) == ["carts live in Postgres now", "deploy on Mondays"]
    assert (result["memories"]["added"], result["memories"]["archived"]) == (1, 1)
    spans = [span.name for span in skeleton(here.store.read(f"job-{job_id}"))]
    assert "memory supersede" in spans


@pytest.mark.parametrize("way", ["archived", "undone"])
def test_what_somebody_took_away_does_not_come_back_on_the_same_sentence(
    made: Made, server: ModelServer, way: str
) -> None:
    here = made(url=server.url)
    here.session(ONE, ["REMEMBER: carts live in Redis."])
    here.sync()
    (one,) = here.memories()
    gone = {
        "archived": MemoryArchived(one.memory_id, "not true"),
        "undone": MemoryReverted(
            one.memory_id, 0, "undone", one.kind, one.title, one.body, one.confidence, quotes=one.quotes
        ),
    }
    here.append(one.memory_id, gone[way])
    server.script(tools(("add_memory", {"candidate": 0, "reason": "new"})), text("Done."), model="lead-model")
    job_id, again = here.run("sync", force=True)
    assert (again["memories"]["added"], again["memories"]["rejected"], here.memories()) == (0, 1, [])
    (refused,) = here.events(job_id, "ProposalRejected")
    assert f"the same sentence made {one.memory_id}, which is {way}" in refused.reason
    here.session(TWO, ["REMEMBER: carts live in Redis."], day=2)
    server.script(tools(("add_memory", {"candidate": 0, "reason": "new"})), text("Done."), model="lead-model")
    assert here.sync()["memories"]["added"] == 1


def test_a_memory_that_changed_while_the_lead_thought_is_decided_again(made: Made, server: ModelServer) -> None:
    here = made(url=server.url)
    here.session(ONE, ["REMEMBER: carts live in Redis."])
    here.sync()
    (carts,) = here.memories()
    here.session(TWO, ["REMEMBER: carts live in Redis for a week."], day=2)
    seen: list[str] = []

    def thinking(request: dict[str, Any]) -> Step:
        names = {tool["function"]["name"] for tool in request.get("tools", ())}
        if "add_memory" not in names:
            return brain(request)
        if any(message["role"] == "tool" for message in request["messages"]):
            return text("Done.")
        seen.append(json.dumps(request))
        if len(seen) == 1:
            edit = MemoryEdited(carts.memory_id, "carts live in Redis", "Edited by hand meanwhile.", 0.9, [])
            here.append(carts.memory_id, edit)
        return tools(("update_memory", {"candidate": 0, "memory_id": carts.memory_id, "reason": "more exact"}))

    server.answer = thinking
    job_id, result = here.run("sync")
    assert [event.code for event in here.events(job_id, "StageFailed")] == ["conflict"]
    assert len(seen) == 2
    assert "Edited by hand meanwhile." not in seen[0]
    assert "Edited by hand meanwhile." in seen[1]
    assert (result["status"], result["memories"]["updated"]) == ("succeeded", 1)
    rows = here.store.read(f"memory-{carts.memory_id}")
    assert [row.type for row in rows] == ["MemoryAdded", "MemoryEdited", "MemoryUpdated"]


def test_unsupported_candidates_are_refused_counted_and_in_log_and_trace(made: Made, server: ModelServer) -> None:
    here = made(url=server.url)
    here.session(ONE, ["REMEMBER: carts live in Redis.", "Please go on."])
    server.script(
        candidates(
            {"title": "Carts live in Redis", "quote": "REMEMBER:  carts\nlive in Redis."},
            {"title": "Never said", "quote": "We decided to rewrite it in Rust."},
            {"title": "The agent said", "quote": "Understood, point 0 is done."},
        ),
        model="extract-model",
    )
    job_id, result = here.run("sync")
    assert (result["memories"]["added"], result["memories"]["rejected"], result["dropped"]) == (1, 2, 1)
    refused = {event.title: event for event in here.events(job_id, "ProposalRejected")}
    assert refused["Never said"].reason == "its quote is not in the transcript"
    assert "user's words" in refused["The agent said"].reason
    spans = skeleton(here.store.read(f"job-{job_id}"))
    (rejected,) = [span for span in spans if span.name == "memory add refused"]
    assert rejected.attributes["lerim.title"] == "The agent said"
    assert unsupported(here.store) == (2, [])


def test_evidence_that_is_not_there_is_found(made: Made, server: ModelServer) -> None:
    here = made(url=server.url)
    here.session(ONE, ["REMEMBER: carts live in Redis."])
    here.sync()
    (carts,) = here.memories()
    wrong = Quote(
        "carts live in MySQL",
        *[getattr(carts.quotes[0], key) for key in ("session_id", "stream", "agent", "turn", "speaker")],
    )
    agent = Quote("Understood", wrong.session_id, wrong.stream, wrong.agent, 1, "assistant")
    here.append("w1", MemoryAdded("w1", PROJECT, "insight", "t", "b", 0.5, quotes=[wrong]))
    here.append("w2", MemoryAdded("w2", PROJECT, "insight", "t", "b", 0.5))
    here.append("w3", MemoryAdded("w3", PROJECT, "decision", "t", "b", 0.5, quotes=[agent]))
    here.append("w4", MemoryAdded("w4", PROJECT, "insight", "t", "b", 0.5, quotes=[agent]))
    here.append("w5", MemoryAdded("w5", PROJECT, "decision", "t", "b", 0.5, by_hand=True))
    checked, found = unsupported(here.store)
    assert checked == 6
    assert {key: why.split(":")[0] for key, why in found} == {
        "w1": f"its quote is not what the user said in turn 0 of session {ONE}",
        "w2": "it has no quote",
        "w3": "it is a rule, and none of its quotes are the user's own words",
    }


# --- where a memory came from ----------------------------------------------------------------------
def test_every_memory_leads_to_its_sentence_its_call_and_its_decision(made: Made, server: ModelServer) -> None:
    here = made(url=server.url)
    here.session(ONE, ["Hello.", "REMEMBER: carts live in Redis."])
    job_id, _ = here.run("sync")
    (carts,) = here.memories()
    (origin,) = origins(here.store, carts)
    assert [(turn.n, turn.speaker) for turn in origin.around] == [(1, "assistant"), (2, "user"), (3, "assistant")]
    calls = {event.role: event for event in here.events(job_id, "ModelCalled") if isinstance(event, ModelCalled)}
    assert origin.kept_by is not None
    assert (origin.kept_by.role, origin.kept_by.model) == ("extract", "extract-model")
    assert origin.kept_by.tokens_in == calls["extract"].tokens_in
    assert origin.placed_by is not None
    placed = origin.placed_by
    assert (placed.action, placed.reason, placed.job_id) == ("added", "nothing stored is near it", job_id)
    assert placed.model == "extract-model"
    spans = {span.span_id: span for span in skeleton(here.store.read(f"job-{job_id}"))}
    assert spans[placed.span_id or ""].name == "Lead agent"
    assert (carts.span_id, carts.trace_id) == (placed.span_id, placed.trace_id)
    assert placed.span_id == attempt_span_id(placed.trace_id or "", placed.stage or "", placed.attempt or 0)
    summary = next(one for one in _all(here) if one.kind == "summary")
    (about,) = origins(here.store, summary)
    assert about.kept_by is not None
    assert about.kept_by.role == "summarize"


def _all(here: Here) -> list[Any]:
    from lerim_jobs.memory.stored import all_memories

    return list(all_memories(here.store).values())


# --- clean-up --------------------------------------------------------------------------------------
def test_a_clean_up_merges_consolidates_and_archives_and_then_costs_nothing(made: Made, server: ModelServer) -> None:
    here = made(url=server.url)
    for number in range(3):
        here.append(
            f"c{number}", added(f"c{number}", f"Carts part {number}", body=f"Carts rule number {number} of the shop.")
        )
    here.append("d1", added("d1", "Deploys happen on Mondays"))
    here.append("d2", added("d2", "Deploys happen on Mondays only"))
    here.append("t", added("t", "The weather is nice"))
    server.script(
        tools(
            (
                "consolidate_memories",
                {
                    "survivor": "c0",
                    "absorbed": ["c1", "c2"],
                    "title": "Carts rule",
                    "body": "Carts rule number 0, 1 and 2 of the shop.",
                    "reason": "parts of one",
                },
            ),
            (
                "merge_memories",
                {
                    "survivor": "d1",
                    "absorbed": ["d2"],
                    "title": "Deploys happen on Mondays",
                    "body": "Deploys happen on Mondays only",
                    "reason": "same",
                },
            ),
            ("archive_memory", {"memory_id": "t", "reason": "trivial"}),
        ),
        text("Done."),
        model="lead-model",
    )
    _, result = here.run("maintain")
    assert [result["memories"][name] for name in ("merged", "archived", "rejected")] == [3, 1, 0]
    kept = {one.memory_id: one for one in here.memories()}
    assert set(kept) == {"c0", "d1"}
    assert [quote.text for quote in kept["c0"].quotes] == ["Carts part 0", "Carts part 1", "Carts part 2"]
    (origin, other, _) = origins(here.store, kept["c0"])
    assert origin.placed_by is not None
    assert other.placed_by is not None
    merged = other.placed_by
    assert (origin.placed_by.action, origin.placed_by.agent) == ("added", None)
    assert (merged.action, merged.reason, merged.agent, merged.model) == (
        "merged",
        "parts of one",
        "curator",
        "lead-model",
    )
    calls = len(server.requests)
    _, quiet = here.run("maintain")
    assert (quiet["model_calls"], quiet["seen_before"], len(server.requests)) == (0, 2, calls)
    _, forced = here.run("maintain", force=True)
    assert forced["model_calls"] == 1
    assert set(forced["memories"].values()) == {0}


def test_a_dry_run_shows_the_plan_and_changes_no_memory(made: Made, server: ModelServer) -> None:
    here = made(url=server.url)
    for number in (1, 2):
        here.append(f"d{number}", added(f"d{number}", "Deploys happen on Mondays"))
    before = [
        (row.position, row.stream)
        for row in here.store.read_all(0, 10_000)
        if not row.stream.startswith(("job-", "budget"))
    ]
    merge = {
        "survivor": "d1",
        "absorbed": ["d2"],
        "title": "Deploys happen on Mondays",
        "body": "On Mondays",
        "reason": "same",
    }
    for _ in range(2):
        server.script(tools(("merge_memories", merge)), text("Done."), model="lead-model")
    _, dry = here.run("maintain", dry_run=True)
    after = [
        (row.position, row.stream)
        for row in here.store.read_all(0, 10_000)
        if not row.stream.startswith(("job-", "budget"))
    ]
    assert before == after
    (line,) = dry["proposals"]
    assert (line["action"], line["memory_id"], line["absorbs"], line["refused"]) == ("merge", "d1", ["d2"], None)
    assert here.run("maintain")[1]["memories"]["merged"] == 1


def test_one_job_takes_only_so_many_memories_away(made: Made, server: ModelServer) -> None:
    here = made(url=server.url, settings="[memory]\nmax_archived_per_job = 2\n")
    for number in range(5):
        here.append(f"c{number}", added(f"c{number}", f"Carts rule number {number}"))
    whole = {
        "survivor": "c0",
        "absorbed": ["c1", "c2", "c3"],
        "title": "Carts rule number",
        "body": "Carts rule number",
        "reason": "one",
    }
    server.script(
        tools(("consolidate_memories", whole), ("archive_memory", {"memory_id": "c4", "reason": "x"})),
        text("Done."),
        model="lead-model",
    )
    job_id, result = here.run("maintain")
    assert (result["memories"]["merged"], result["memories"]["archived"], result["memories"]["rejected"]) == (0, 1, 1)
    (refused,) = here.events(job_id, "ProposalRejected")
    assert "max_archived_per_job" in refused.reason


def test_duplicates_far_apart_meet_and_the_calls_are_bounded(made: Made, server: ModelServer) -> None:
    here = made(url=server.url, settings="[memory]\ncurate_batch = 4\ncurate_batches = 2\n")
    names = [f"{b}{a}" for a in ("quartz", "marble", "basalt", "cobalt") for b in ("fox", "owl", "elk", "bee", "ant")]
    here.append("old", added("old", "Nightly backups go to the cellar tape"))
    for name in names:
        here.append(name, added(name, name))
    for twin in ("one", "two", "three"):
        here.append(twin, added(twin, f"Invoice rounding uses bankers {twin}"))
        here.append(f"x{twin}", added(f"x{twin}", f"Invoice rounding uses bankers x{twin}"))
    here.append("new", added("new", "Nightly backups go to the cellar tape again"))
    _, first = here.run("maintain")
    together = [{one["memory_id"] for one in prompt["memories"]} for prompt in prompts(server, "lead-model")]
    assert {"old", "new"} in [found & {"old", "new"} for found in together]
    assert all(len(found) <= 4 for found in together)
    assert not any(found & set(names) for found in together)
    assert first["batches"] == 2
    assert first["left_for_later"] > 0
    _, second = here.run("maintain")
    assert second["batches"] >= 1
    assert second["seen_before"] > 0
    assert here.run("maintain")[1]["model_calls"] == 0


def test_decay_counts_the_last_use_and_spares_nothing_else(made: Made) -> None:
    from lerim_jobs.config import Decay
    from lerim_jobs.log.events import MemoryAccessed
    from lerim_jobs.log.projection import find
    from lerim_jobs.memory.checks import decay
    from lerim_jobs.projects import PROJECTS, project_stream

    here = made()
    here.append("m1", added("m1", "Deploys happen on Mondays"))
    (one,) = here.memories()
    here.store.append(project_stream(PROJECT), [MemoryAccessed(PROJECT, ["m1"])])
    project = find(here.store, PROJECTS, PROJECT)
    assert project is not None
    used_ms, day_ms = project.accessed_ms["m1"], 86_400_000
    assert used_ms >= one.accessed_ms
    one = msgspec.structs.replace(one, accessed_ms=0, created_ms=0)
    assert not decay.decide(one, used_ms + 128 * day_ms, Decay(), used_ms=used_ms).archive
    assert decay.decide(one, used_ms + 129 * day_ms, Decay(), used_ms=used_ms).archive
    assert decay.decide(one, used_ms + 128 * day_ms, Decay()).archive


def test_agents_leave_what_somebody_wrote_by_hand(made: Made, server: ModelServer) -> None:
    here = made(url=server.url)
    here.append("h1", added("h1", "Deploys happen on Mondays", by_hand=True))
    here.append("a1", added("a1", "Deploys happen on Mondays!"))
    merge = {
        "survivor": "a1",
        "absorbed": ["h1"],
        "title": "Deploys happen on Mondays",
        "body": "Mondays",
        "reason": "same",
    }
    server.script(tools(("merge_memories", merge)), text("Done."), model="lead-model")
    job_id, _ = here.run("maintain")
    assert len(here.memories()) == 2
    (refused,) = here.events(job_id, "ProposalRejected")
    assert isinstance(refused, ProposalRejected)
    assert "by hand" in refused.reason
    assert not here.events(job_id, StageFailed.__name__)
