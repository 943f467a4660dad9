"""Whatever people, syncs, maintains and undos do in whatever order: nothing vanishes, nothing resurrects, undo is exact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from lerim_jobs.errors import BadInput, ConflictError
from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.log.events import MemoryArchived, MemoryEdited, MemoryRedacted, MemoryRestored, MemoryReverted
from lerim_jobs.log.projection import rebuild
from lerim_jobs.memory.checks.checks import Verdict, check
from lerim_jobs.memory.checks.summaries import SessionRef, summary_effects
from lerim_jobs.memory.history.undo import Undo, of_job, of_memory, undo
from lerim_jobs.memory.memory import Memory, content_hash, fold
from lerim_jobs.memory.proposals import Candidate, Proposal
from lerim_jobs.memory.search.asof import memories_at
from lerim_jobs.memory.stored import MEMORIES, all_memories
from lerim_jobs.sessions.transcript import Turn
from tests.memory_store import MemoryStore

FACTS = ("use tabs", "deploy on Mondays", "carts live in Redis", "orders live in Postgres", "never force push")
TURNS = [Turn(n, "user", f"We decided to {fact}.", f"k{n}") for n, fact in enumerate(FACTS)]
SESSION = SessionRef("s1", "session-codex-1", "codex", "some-model")
BACK_TO_LIFE = {"MemoryRestored", "MemoryReverted"}

facts = st.integers(0, len(FACTS) - 1)
picks = st.integers(0, 50)


class Life(RuleBasedStateMachine):
    """One project's memories and everybody who changes them."""

    jobs = Bundle("jobs")
    plans = Bundle("plans")

    def __init__(self) -> None:
        super().__init__()
        self.clock = 0
        self.store = MemoryStore(clock=self._tick)
        self.number = 0
        self.before: dict[str, Memory] = {}
        self.seen = 0
        self.past: list[tuple[int, dict[str, str]]] = []

    def _tick(self) -> int:
        self.clock += 1
        return self.clock

    # --- who changes memories ---
    @initialize(target=jobs)
    def first_sync(self) -> str:
        return self._synced([(n, 0) for n in range(len(FACTS))], updates=False)

    @rule(target=jobs, chosen=st.lists(st.tuples(facts, picks), min_size=1, max_size=4), updates=st.booleans())
    def sync(self, chosen: list[tuple[int, int]], updates: bool) -> str:
        """A session's candidates, added or laid upon what is known."""
        return self._synced(chosen, updates)

    def _synced(self, chosen: list[tuple[int, int]], updates: bool) -> str:
        job_id = self._job("sync")
        candidates = [
            Candidate("decision", FACTS[n], f"We {FACTS[n]}. {'Again. ' * (n + p)}", 0.8, TURNS[n].text)
            for n, p in chosen
        ]
        known = self._active()
        proposals = []
        for number, (_, pick) in enumerate(chosen):
            if updates and known:
                one = known[pick % len(known)]
                proposals.append(Proposal("update", candidate=number, memory_id=one.memory_id, version=one.version))
            else:
                proposals.append(Proposal("add", candidate=number))
        verdict = self._check(proposals, candidates, job_id)
        summary = summary_effects(
            title=f"Session {job_id}",
            body="It began.",
            session=SESSION,
            turns=TURNS,
            project_id="p",
            memories=all_memories(self.store),
        )
        assert self._commit([*verdict.effects, *summary], job_id, "integrate:1")
        return job_id

    @rule(target=plans, pick=picks, other=picks, archive=st.booleans())
    def plan_a_maintain(self, pick: int, other: int, archive: bool) -> tuple[str, Verdict]:
        """Decided now, committed later: in between anything may happen."""
        return self._planned(pick, other, archive)

    @rule(target=jobs, pick=picks, other=st.integers(1, 3))
    def maintain(self, pick: int, other: int) -> str:
        """Decided and committed at once."""
        return self._committed(self._planned(pick, other, False))

    @rule(target=jobs, plan=consumes(plans))
    def commit_a_maintain(self, plan: tuple[str, Verdict]) -> str:
        """It takes effect whole, or not at all because a memory moved on."""
        return self._committed(plan)

    def _planned(self, pick: int, other: int, archive: bool) -> tuple[str, Verdict]:
        job_id, known = self._job("maintain"), self._active()
        proposals = []
        if known:
            one, two = known[pick % len(known)], known[(pick + other) % len(known)]
            proposals.append(Proposal("archive", memory_id=one.memory_id, version=one.version, reason="old"))
            if not archive:
                proposals = [
                    Proposal(
                        "merge", memory_id=one.memory_id, version=one.version, absorbs=[two.memory_id], title="Both"
                    )
                ]
        return job_id, self._check(proposals, [], job_id)

    def _committed(self, plan: tuple[str, Verdict]) -> str:
        job_id, verdict = plan
        moved = any(self.store.version(effect.stream) != effect.expected for effect in verdict.effects)
        assert self._commit(verdict.effects, job_id, "curate:p") is not moved
        return job_id

    @precondition(lambda self: self._known())
    @rule(pick=picks, words=st.sampled_from(["My words.", "Better words."]))
    def edit_by_hand(self, pick: int, words: str) -> None:
        one = self._some(pick)
        self._by_hand(one, MemoryEdited(one.memory_id, one.title, words, 1.0, ["mine"]))

    @precondition(lambda self: self._known())
    @rule(pick=picks)
    def archive_or_restore_by_hand(self, pick: int) -> None:
        one = self._some(pick)
        archived = one.status == "archived"
        self._by_hand(one, MemoryRestored(one.memory_id) if archived else MemoryArchived(one.memory_id, "by hand"))

    @precondition(lambda self: self._known())
    @rule(pick=picks)
    def redact(self, pick: int) -> None:
        if pick < 3:
            one = self._some(pick)
            self._by_hand(one, MemoryRedacted(one.memory_id))

    # --- who takes it back ---
    @precondition(lambda self: self._known())
    @rule(pick=picks, back=st.integers(1, 4))
    def undo_a_memory(self, pick: int, back: int) -> None:
        one = self._some(pick)
        if one.status == "redacted":
            with pytest.raises(BadInput):
                of_memory(self.store, one.memory_id)
            return
        made = undo(
            self.store,
            lambda: of_memory(self.store, one.memory_id, to_version=max(0, one.version - back)),
            meta={"undo_id": self._job("undo")},
        )
        assert made.lines[0].memory_id == one.memory_id
        for line in made.lines:
            self._is_back(line)

    @rule(target=jobs, job_id=jobs)
    def undo_a_job(self, job_id: str) -> str:
        undo_id = self._job("undo")
        untouched = {key: content_hash(one) for key, one in all_memories(self.store).items()}
        made = undo(self.store, lambda: of_job(self.store, job_id), meta={"undo_id": undo_id})
        for line in made.lines:
            if line.outcome == "undone":
                self._is_back(line)
                untouched.pop(line.memory_id)
        after = all_memories(self.store)
        assert {key: content_hash(after[key]) for key in untouched} == untouched
        return undo_id

    # --- what must hold ---
    @invariant()
    def nothing_vanishes_and_nothing_changes_without_an_event(self) -> None:
        now = all_memories(self.store)
        assert now.keys() >= self.before.keys()
        for key, before in self.before.items():
            events = len(self.store.read(f"memory-{key}", after=before.version))
            assert now[key].version == before.version + events
            assert events or now[key] == before
        self.before = now

    @invariant()
    def nothing_resurrects(self) -> None:
        for row in self.store.read_all(self.seen, 10_000, MEMORIES.types):
            rows = self.store.read(row.stream)
            old, new = fold(rows[: row.version - 1]), fold(rows[: row.version])
            assert new is not None
            if old and old.status != "active" and new.status == "active":
                assert row.type in BACK_TO_LIFE
                assert old.status != "redacted"
            if old and old.status == "redacted":
                assert (new.title, new.body, new.quotes) == ("[REDACTED]", "[REDACTED]", [])
        self.seen = self.store.position()

    @invariant()
    def the_past_stays_what_it_was(self) -> None:
        redacted = {key for key, one in all_memories(self.store).items() if one.status == "redacted"}
        for at_ms, known in self.past[-3:]:
            then = {key: content_hash(one) for key, one in memories_at(self.store, at_ms).items()}
            assert then == {key: value for key, value in known.items() if key not in redacted}
        now = {key: content_hash(one) for key, one in all_memories(self.store).items() if one.status != "redacted"}
        self.past.append((self._tick(), now))

    def teardown(self) -> None:
        """Rebuilt views are the bytes that were kept step by step, and those are the folds of the streams."""
        all_memories(self.store)
        kept = self.store.docs(MEMORIES.name)
        rebuild(self.store, MEMORIES)
        assert self.store.docs(MEMORIES.name) == kept
        for key, memory in all_memories(self.store).items():
            assert fold(self.store.read(f"memory-{key}")) == memory

    # --- means ---
    def _job(self, kind: str) -> str:
        self.number += 1
        return f"{kind}-{self.number}"

    def _known(self) -> bool:
        return bool(all_memories(self.store))

    def _some(self, pick: int) -> Memory:
        known = [one for _, one in sorted(all_memories(self.store).items())]
        return known[pick % len(known)]

    def _active(self) -> list[Memory]:
        everything = sorted(all_memories(self.store).items())
        return [one for _, one in everything if one.status == "active" and one.kind != "summary"]

    def _check(self, proposals: Sequence[Proposal], candidates: Sequence[Candidate], job_id: str) -> Verdict:
        return check(
            proposals,
            candidates=candidates,
            memories=all_memories(self.store),
            turns=TURNS,
            session=SESSION if candidates else None,
            project_id="p",
            job_key=job_id,
        )

    def _commit(self, effects: Sequence[Effect], job_id: str, stage: str) -> bool:
        """As `claims.complete` appends a stage's effects: all or none."""
        position = self.store.position()
        try:
            with self.store.write() as tx:
                for effect in effects:
                    meta: dict[str, Any] = {"job_id": job_id, "stage": stage, "attempt": 1}
                    tx.append(effect.stream, effect.events, expected=effect.expected, meta=meta)
        except ConflictError:
            assert self.store.position() == position
            return False
        return True

    def _by_hand(self, one: Memory, event: Any) -> None:
        self.store.append(f"memory-{one.memory_id}", [event], expected=one.version)

    def _is_back(self, line: Undo) -> None:
        rows = self.store.read(f"memory-{line.memory_id}")
        assert isinstance(rows[-1].event, MemoryReverted)
        then, now = fold(rows[: line.to_version]), fold(rows)
        assert now is not None
        if then is None:
            assert now.status == "undone"
        else:
            assert content_hash(now) == content_hash(then)


Life.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_any_life_of_memories = Life.TestCase
