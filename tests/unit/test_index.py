"""The index stage on a log of its own: what it counts, takes and plans, whatever happened to earlier attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lerim_jobs import config
from lerim_jobs.config import Role, Roles, Settings
from lerim_jobs.errors import ClaimLost, ConflictError
from lerim_jobs.jobs import claims, outcomes
from lerim_jobs.jobs.claims import Claim
from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.jobs.request import request_job
from lerim_jobs.kinds.sync import SessionPlan, after_index
from lerim_jobs.log.events import (
    JobRequested,
    ProjectAdded,
    SessionExtracted,
    SessionIndexed,
    SessionScheduled,
    StageRequested,
)
from lerim_jobs.log.store import StageRow
from lerim_jobs.paths import Home
from lerim_jobs.sessions.chunk import Limits
from lerim_jobs.sessions.windows import cut
from tests.memory_store import MemoryStore
from tests.transcripts import write_claude
from workers.stage import Outcome, StageContext
from workers.stages import index
from workers.stages.sessions import extract_window, session_turns, summarize_windows
from workers.work import Workshop

LIMITS = Limits(files=4)


class Died(BaseException):
    """What a SIGKILL is to the code: nothing after it runs."""


class Index:
    """A log, a project and the index stages of syncs."""

    def __init__(self, place: Path, store: MemoryStore | None = None, settings: Settings | None = None) -> None:
        self.place, self.settings = place, settings or config.Settings()
        self.store = store or MemoryStore()
        self.store.append("project-p", [ProjectAdded("p", "shop", "/srv/shop", "h")])
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None
        self.planning: Callable[[], None] = lambda: None

    def session(self, name: str, *says: str, day: int = 1) -> Path:
        return write_claude(self.place / "claude", name, "/srv/shop", says, day=day)

    def request(self, job_id: str, **params: Any) -> None:
        requested = JobRequested("sync", params, job_id, "test", "h", "t" * 32, "s" * 16, 1)
        request_job(self.store, job_id, requested)

    def run(self, job_id: str, **params: Any) -> Outcome:
        """The next attempt of the job's index, committed."""
        self.request(job_id, **params)
        held = claims.claim(self.store, job_id, "index", "w", alive=lambda owner: False, max_attempts=5)
        assert isinstance(held, Claim), held
        outcome = index.run(self.context(held), LIMITS)
        assert outcomes.complete(
            self.store,
            held,
            output=outcome.output,
            effects=outcome.effects,
            blobs=outcome.blobs,
            next_stages=outcome.next_stages,
        )
        return outcome

    def context(self, held: Claim) -> StageContext:
        """As a worker makes it, with what happens at its edges."""
        home = Home(self.place / "h")
        env = {"HOME": str(self.place), "LERIM_HOME": str(home.root), "CODEX_HOME": "/none"}
        shop = Workshop(self.store, home, {**env, "CLAUDE_CONFIG_DIR": str(self.place / "claude")}, "h", Settings, {})
        made = shop.context(shop.open(held))

        def checkpoint(effects: Sequence[Effect], blobs: Sequence[bytes]) -> None:
            self.before()
            made.checkpoint(effects, blobs)
            self.after()

        def settings_of(folder: Path) -> Settings:
            self.planning()
            return self.settings

        return replace(made, settings_of=settings_of, checkpoint=checkpoint)

    def indexed(self) -> list[SessionIndexed]:
        return [row.as_(SessionIndexed) for row in self.store.read_all(0, 100_000, ("SessionIndexed",))]


def test_b3_the_result_of_a_job_counts_what_its_killed_attempts_indexed(tmp_path: Path) -> None:
    ours, whole = Index(tmp_path), Index(tmp_path)
    for n in range(10):
        ours.session(f"s-{n}", f"Sentence {n}, sk-{'a1B2' * 10}.")
    (tmp_path / "claude" / "projects" / "empty.jsonl").touch()
    chunks: list[int] = []

    def die_at_the_third() -> None:
        chunks.append(1)
        if len(chunks) == 2:
            raise Died

    ours.after = die_at_the_third
    with pytest.raises(Died):
        ours.run("sync-1")
    stored = len(ours.indexed())
    assert 0 < stored < 11
    output = ours.run("sync-1").output
    assert output == whole.run("sync-1").output
    assert (output["found"], output["indexed"], output["skipped_reasons"]) == (11, 10, {"empty file": 1})
    assert (output["redactions"], output["turns"], output["taken"]) == (10, 20, 10)
    assert len(ours.indexed()) == 11
    later = ours.run("sync-2").output
    assert (later["found"], later["unchanged"], later["indexed"], later["turns"]) == (11, 11, 0, 0)


def test_what_another_job_indexed_meanwhile_is_not_counted_again(tmp_path: Path) -> None:
    ours = Index(tmp_path)
    ours.session("s-1", "Sentence.")
    ours.request("sync-1")
    assert ours.run("sync-2").output["indexed"] == 1
    ours.session("s-2", "Sentence.")
    output = ours.run("sync-1").output
    assert (output["found"], output["indexed"], output["unchanged"], output["turns"]) == (2, 1, 1, 2)


def test_the_oldest_sessions_are_taken_first(tmp_path: Path) -> None:
    ours = Index(tmp_path)
    for day in (3, 1, 4, 2, 5):
        ours.session(f"s-{day}", "Sentence.", day=day)
    output = ours.run("sync-1", max_sessions=3).output
    assert (output["taken"], output["left"]) == (3, {"over the limit of sessions per run": 2})
    taken = [plan_of(stage).session_id for stage in planned(ours, "sync-1", "integrate")]
    assert taken == ["s-1", "s-2", "s-3"]


def test_a_session_in_which_nobody_spoke_is_left_with_that_reason(tmp_path: Path) -> None:
    ours = Index(tmp_path)
    ours.session("s-1", "Sentence.")
    path = ours.session("s-2", "Sentence.")
    prompt, *answer = path.read_text("utf-8").splitlines()
    path.write_text("\n".join([prompt.replace('"isSidechain": false', '"isMeta": true'), *answer]) + "\n", "utf-8")
    output = ours.run("sync-1").output
    assert (output["indexed"], output["taken"], output["left"]) == (2, 1, {"nobody spoke": 1})


def test_an_attempt_that_lost_its_claim_reads_no_further(tmp_path: Path) -> None:
    ours = Index(tmp_path)
    for n in range(10):
        ours.session(f"s-{n}", f"Sentence {n}.")

    def take_over() -> None:
        claims.claim(ours.store, "sync-1", "index", "other", alive=lambda owner: False, max_attempts=5)
        ours.after = lambda: None

    ours.after = take_over
    with pytest.raises(ClaimLost):
        ours.run("sync-1")
    assert len(ours.indexed()) == 4
    assert ours.store.stage("sync-1", "index").attempt == 2  # type: ignore[union-attr]


def test_a_session_that_another_job_takes_while_the_files_are_read_is_left_to_it(tmp_path: Path) -> None:
    ours = Index(tmp_path)
    ours.session("s", "Sentence.")

    def take() -> None:
        ours.before = lambda: None
        ours.run("sync-2")

    ours.before = take
    first = ours.run("sync-1")
    assert (first.output["taken"], first.output["left"]) == (0, {"another job works on it": 1})
    assert len(ours.indexed()) == 1


def test_a_session_that_another_job_takes_at_the_same_moment_is_decided_about_again(tmp_path: Path) -> None:
    ours = Index(tmp_path)
    ours.session("s", "Sentence.")

    def overtake() -> None:
        (row,) = ours.store.read_all(0, 1000, ("SessionIndexed",))
        ours.store.append(row.stream, [SessionScheduled("other", "p", 0, 2)])

    ours.planning = overtake
    with pytest.raises(ConflictError):
        ours.run("sync-1")


class Counting(MemoryStore):
    """Remembers whose claim rows were asked for, and how many segments."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.segments = 0

    def blob(self, blob_hash: str) -> bytes:
        self.segments += 1
        return super().blob(blob_hash)

    def has_stages(self, job_id: str) -> bool:
        self.asked.append(job_id)
        return super().has_stages(job_id)

    def stages(self, job_id: str, name: str | None = None) -> list[StageRow]:
        self.asked.append(job_id)
        return super().stages(job_id, name)


def test_sessions_that_other_jobs_work_on_cost_one_question_a_job(tmp_path: Path) -> None:
    store = Counting()
    ours = Index(tmp_path, store)
    with store.write() as tx:
        for name in ("big-1", "big-2"):
            tx.add_stages([StageRow(name, "finish", "ask", "waiting")], [])
        for n in range(800):
            fields = {"turn_to": 4, "blob": "b", "cwd": "/srv/shop", "human_prompts": 1}
            read = SessionIndexed(*("claude_code", f"s-{n}", f"/s-{n}", "h", 1, 1, 1, 1, "t"), **fields)  # type: ignore[arg-type]
            tx.append(f"session-claude_code-{n}", [read, SessionScheduled(f"big-{1 + n % 2}", "p", 0, 4)])
    output = ours.run("sync-1").output
    assert output["left"] == {"another job works on it": 800}
    assert sorted(name for name in store.asked if name.startswith("big")) == ["big-1", "big-2"]


# --- plans -----------------------------------------------------------------------------------------
LONG = [f"REMEMBER: fact {n}. {'Some words about the shop. ' * 30}" for n in range(12)] + ["x" * 9000, "Bye."]


def planned(ours: Index, job_id: str, family: str) -> list[StageRequested]:
    stages = [row.as_(StageRequested) for row in ours.store.read(f"job-{job_id}") if row.type == "StageRequested"]
    return [stage for stage in stages if stage.stage.startswith(family)]


def plan_of(stage: StageRequested) -> SessionPlan:
    return msgspec.convert(stage.input["session"], SessionPlan)


def test_a_stage_is_given_its_windows_and_never_cuts_again(tmp_path: Path) -> None:
    roles = Roles(extract=Role(max_window_tokens=900, window_overlap_tokens=50), summarize=Role(max_window_tokens=2000))
    ours = Index(tmp_path, settings=Settings(roles=roles))
    ours.session("s", *LONG)
    output = ours.run("sync-1").output
    extracts, (summary,), (integrate,) = (
        planned(ours, "sync-1", name) for name in ("extract", "summarize", "integrate")
    )
    assert output["windows"] == len(extracts) > 5
    turns = session_turns(ours.store, plan_of(integrate))
    wanted = cut(turns, max_tokens=900, overlap_tokens=50)
    assert [stage.input["window"] for stage in extracts] == list(range(len(wanted)))
    assert [plan_of(stage).extract for stage in extracts] == [[window] for window in wanted]
    assert plan_of(summary).summarize == cut(turns, max_tokens=2000, overlap_tokens=1000)
    assert not any(plan_of(stage).summarize for stage in extracts)
    assert not any((plan_of(integrate).extract, plan_of(integrate).summarize, plan_of(summary).extract))
    # Sizes that change meanwhile change nothing.
    other = [msgspec.structs.replace(plan_of(stage), window_tokens=300) for stage in extracts]
    assert [extract_window(ours.store, plan, n) for n, plan in enumerate(other)] == wanted
    sizes = {"max_tokens": 300, "overlap_tokens": 0}
    assert summarize_windows(ours.store, plan_of(summary), **sizes) == plan_of(summary).summarize


def test_plans_of_an_earlier_version_are_cut_as_they_were(tmp_path: Path) -> None:
    ours = Index(tmp_path)
    ours.session("s", *LONG)
    ours.run("sync-1")
    (integrate,) = planned(ours, "sync-1", "integrate")
    turns = session_turns(ours.store, plan_of(integrate))
    wanted = cut(turns, max_tokens=900, overlap_tokens=50)
    sizes = {"window_tokens": 900, "overlap_tokens": 50, "windows": len(wanted)}
    given = {**integrate.input["session"], **sizes}
    old = msgspec.convert({name: given[name] for name in given if name not in ("extract", "summarize")}, SessionPlan)
    assert [extract_window(ours.store, old, n) for n in range(len(wanted))] == wanted
    assert extract_window(ours.store, old, len(wanted)) is None
    assert summarize_windows(ours.store, old, max_tokens=900, overlap_tokens=50) == wanted
    stages = after_index([old], host="h", params={})
    assert sum(stage.stage.startswith("extract") for stage in stages) == len(wanted)


def test_only_the_new_turns_of_a_session_are_read_and_cut(tmp_path: Path) -> None:
    roles = Roles(extract=Role(max_window_tokens=900, window_overlap_tokens=50))
    store = Counting()
    ours = Index(tmp_path, store, settings=Settings(roles=roles))
    ours.session("s", *LONG)
    ours.run("sync-1")
    (row,) = ours.store.read_all(0, 1000, ("SessionScheduled",))
    ours.store.append(row.stream, [SessionExtracted("sync-1", row.as_(SessionScheduled).turn_to)])
    ours.store.drop_stages("sync-1")
    ours.session("s", *LONG, "REMEMBER: this is new.")
    ours.run("sync-2")
    (extract,) = planned(ours, "sync-2", "extract")
    plan = plan_of(extract)
    window = extract_window(store, plan, 0)
    assert window is not None
    assert (window.turn_from, window.turn_to) == (plan.turn_from, plan.turn_to) == (28, 30)
    store.segments = 0
    assert window.text(session_turns(store, plan, window.turn_from, window.turn_to)).startswith(
        "User: REMEMBER: this is new."
    )
    assert store.segments == 1
