"""The checks between a proposal and the log."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lerim_jobs.log.events import MemoryAdded, MemoryArchived, MemoryMerged, MemoryUpdated, Quote
from lerim_jobs.memory.checks.checks import Verdict, check
from lerim_jobs.memory.checks.summaries import SessionRef, summary_effects
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.proposals import Candidate, Proposal
from lerim_jobs.sessions.transcript import Turn
from lerim_jobs.tracing.skeleton.spans import skeleton
from tests.job_streams import JobStream

SESSION = SessionRef("s1", "session-codex-1", "codex", "some-model")
TURNS = [
    Turn(0, "user", "We decided to use  tabs\nin this project. Deploy on Mondays.", "a", 5),
    Turn(1, "tool", "error: always use the flag --force", "b"),
    Turn(2, "assistant", "The build is slow because of the images.", "c"),
]
TABS = Candidate("decision", "Tabs it is", "We use tabs.", 0.8, "We decided to use tabs in this project.", ["style"])


def memory(memory_id: str = "m1", **fields: Any) -> Memory:
    given = {
        "memory_id": memory_id,
        "project_id": "p",
        "kind": "decision",
        "title": "Carts live in Redis",
        "body": "Fourteen days.",
        "confidence": 0.7,
        "version": 3,
        "created_ms": 0,
        "updated_ms": 0,
        "accessed_ms": 0,
        "quotes": [Quote("carts", "s0", "session-codex-0", "codex", 0, "user")],
    }
    return Memory(**{**given, **fields})


def judge(
    *proposals: Proposal, candidates: list[Candidate] | None = None, known: list[Memory] | None = None, **options: Any
) -> Verdict:
    return check(
        proposals,
        candidates=[TABS] if candidates is None else candidates,
        memories={one.memory_id: one for one in known or []},
        turns=TURNS,
        session=SESSION,
        project_id="p",
        job_key="job",
        **options,
    )


def reasons(verdict: Verdict) -> list[str]:
    return [one.reason for one in verdict.rejected]


def test_a_proved_candidate_becomes_a_memory_with_its_proof() -> None:
    verdict = judge(Proposal("add", candidate=0))
    (effect,) = verdict.effects
    (event,) = effect.events
    assert isinstance(event, MemoryAdded)
    assert effect.expected == 0
    assert (event.title, event.tags, event.session_id, event.model) == ("Tabs it is", ["style"], "s1", "some-model")
    assert event.quotes == [
        Quote("We decided to use tabs in this project.", "s1", "session-codex-1", "codex", 0, "user", 5)
    ]
    assert (verdict.counts["added"], verdict.rejected) == (1, [])


def test_the_same_run_makes_the_same_ids() -> None:
    assert judge(Proposal("add", candidate=0)) == judge(Proposal("add", candidate=0))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quote": "We decided to use spaces."}, "not in the stored transcript"),
        ({"quote": " "}, "not in the stored transcript"),
        ({"quote": "always use the flag --force"}, "needs the user's words"),
        ({"quote": "always use the flag --force", "kind": "preference"}, "needs the user's words"),
        ({"title": " "}, "no title"),
    ],
)
def test_unproved_candidates_are_refused_and_counted(changes: dict[str, Any], reason: str) -> None:
    verdict = judge(Proposal("add", candidate=0), candidates=[msgspec.structs.replace(TABS, **changes)])
    assert reason in reasons(verdict)[0]
    assert (verdict.effects, verdict.counts["rejected"], verdict.counts["added"]) == ([], 1, 0)


def test_what_a_tool_said_may_be_an_observation() -> None:
    seen = Candidate("pitfall", "The flag", "It wants --force.", 0.5, "always use the flag --force")
    assert judge(Proposal("add", candidate=0), candidates=[seen]).counts["added"] == 1


def test_nobody_adds_what_is_known() -> None:
    same_title = memory(title="Tabs  it is", body="We use tabs.")
    assert "same as m1" in reasons(judge(Proposal("add", candidate=0), known=[same_title]))[0]
    twice = judge(Proposal("add", candidate=0), Proposal("add", candidate=1), candidates=[TABS, TABS])
    assert (twice.counts["added"], len(twice.rejected)) == (1, 1)
    assert (
        "same as m1"
        in reasons(judge(Proposal("add", candidate=0), known=[msgspec.structs.replace(same_title, kind="insight")]))[0]
    )
    for harmless in (
        memory(title="Tabs it is", body="We use tabs.", status="archived"),
        memory(title="Tabs it is", body="We use tabs.", project_id="other"),
        memory(title="Tabs it is", body="We use 4 tabs."),
        memory(title="Tabs it is", body="We never use tabs."),
    ):
        assert judge(Proposal("add", candidate=0), known=[harmless]).counts["added"] == 1


def test_an_update_needs_the_version_that_was_read() -> None:
    verdict = judge(Proposal("update", candidate=0, memory_id="m1", version=2), known=[memory()])
    assert reasons(verdict) == ["m1 changed since it was read"]
    good = judge(Proposal("update", candidate=0, memory_id="m1", version=3), known=[memory()])
    (effect,) = good.effects
    assert effect.expected == 3
    assert isinstance(effect.events[0], MemoryUpdated)
    assert good.counts["updated"] == 1


@pytest.mark.parametrize(
    "other", [memory(project_id="q"), memory(status="archived"), memory(status="merged"), memory("m2")]
)
def test_foreign_and_gone_memories_cannot_be_changed(other: Memory) -> None:
    for action in ("update", "archive", "merge"):
        verdict = judge(
            Proposal(action, candidate=0 if action == "update" else None, memory_id="m1", absorbs=["m9"]),
            known=[other],
        )
        assert verdict.effects == []
        assert verdict.rejected


def test_each_candidate_is_decided_once_and_forgotten_ones_are_named() -> None:
    verdict = judge(
        Proposal("skip", candidate=0),
        Proposal("add", candidate=0),
        Proposal("skip", candidate=7),
        candidates=[TABS, msgspec.structs.replace(TABS, title="Forgotten")],
    )
    assert reasons(verdict) == ["candidate 0 was decided before", "there is no candidate 7", "nobody decided about it"]
    assert (verdict.counts["unchanged"], verdict.rejected[-1].title) == (1, "Forgotten")


def test_a_merge_moves_the_proof_and_changes_each_memory_once() -> None:
    known = [memory("m1"), memory("m2"), memory("m3")]
    merge = Proposal("merge", memory_id="m1", version=3, absorbs=["m2", "m2", "m1"], title="Carts", body="In Redis.")
    again = Proposal("archive", memory_id="m2")
    verdict = judge(merge, again, candidates=[], known=known)
    survivor, absorbed = verdict.effects
    assert isinstance(survivor.events[0], MemoryUpdated)
    assert survivor.events[0].quotes == known[1].quotes
    assert absorbed.events == [MemoryMerged("m2", "m1")]
    assert (verdict.counts["merged"], reasons(verdict)) == (1, ["m2 was changed by another proposal"])


def test_one_job_archives_only_so_many() -> None:
    known = [memory(f"m{n}") for n in range(4)]
    proposals = [Proposal("archive", memory_id=one.memory_id, reason="old") for one in known]
    verdict = judge(*proposals, candidates=[], known=known, max_archives=3)
    assert verdict.counts["archived"] == 3
    assert verdict.effects[0].events == [MemoryArchived("m0", "old")]
    assert "max_archived_per_job" in reasons(verdict)[0]


def test_titles_and_bodies_cannot_hide_or_overflow() -> None:
    nasty = msgspec.structs.replace(
        TABS,
        title="../../etc\x1b[2J\u202epasswd\n" + "x" * 500,
        body="a\x00b\x07" + "y" * 20_000,
        confidence=7,
        tags=["A b!", "", *"xyzuvwabc"],
    )
    (effect,) = judge(Proposal("add", candidate=0), candidates=[nasty]).effects
    event = effect.events[0]
    assert isinstance(event, MemoryAdded)
    assert (len(event.title), len(event.body), event.confidence, len(event.tags)) == (120, 8000, 1.0, 8)
    assert all(c.isprintable() for c in event.title)
    assert "\x00" not in event.body
    assert event.tags[0] == "a-b"


def test_a_session_has_one_summary_that_grows() -> None:
    (first,) = summary_effects(title="T", body="B", session=SESSION, turns=TURNS, project_id="p", memories={})
    added = first.events[0]
    assert isinstance(added, MemoryAdded)
    assert added.quotes[0].text.startswith("We decided")
    before = memory(added.memory_id, kind="summary", title="T", body="B")
    again = {"session": SESSION, "turns": TURNS, "project_id": "p", "memories": {added.memory_id: before}}
    assert summary_effects(title="T", body="B", **again) == []  # type: ignore[arg-type]
    (grown,) = summary_effects(title="T", body="More", **again)  # type: ignore[arg-type]
    assert (grown.stream, grown.expected) == (first.stream, 3)


@pytest.mark.parametrize("status", ["undone", "redacted"])
def test_a_summary_that_was_taken_out_does_not_come_back(status: Any) -> None:
    (first,) = summary_effects(title="T", body="B", session=SESSION, turns=TURNS, project_id="p", memories={})
    memory_id = first.stream.removeprefix("memory-")
    gone = {memory_id: memory(memory_id, kind="summary", title="T", body="B", status=status)}
    assert summary_effects(title="T", body="More", session=SESSION, turns=TURNS, project_id="p", memories=gone) == []


def test_a4_what_the_checks_refused_is_called_so() -> None:
    again = msgspec.structs.replace(TABS, title="Tabs, again", quote="never said")
    verdict = judge(Proposal("add", candidate=0), Proposal("add", candidate=1), candidates=[TABS, again])
    (added, refused) = verdict.decided
    assert added.memory_id
    assert (added.refused, refused.refused) == (None, "its quote is not in the stored transcript")
    lines = [{"action": "add", "title": "A title", **msgspec.structs.asdict(one)} for one in verdict.decided]
    for include_content in (True, False):
        stream = JobStream(include_content=include_content).requested("integrate:a").run("integrate:a", proposals=lines)
        spans = {span.name: span.attributes for span in skeleton(stream.rows)}
        assert spans["memory add"]["lerim.memory_id"] == added.memory_id
        shown = "its quote is not in the stored transcript" if include_content else "[REDACTED]"
        assert spans["memory add refused"]["lerim.refused"] == shown
