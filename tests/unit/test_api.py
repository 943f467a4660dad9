"""The Python face over a log of its own: what it reads, what it refuses, how it looks, and what it never loads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lerim_jobs import api
from lerim_jobs.api.results import Status
from lerim_jobs.clock import iso, now_ms
from lerim_jobs.errors import BadInput, ConfigError
from lerim_jobs.jobs.pausing import pause_queue
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import JobRequested, MemoryAdded, MemoryArchived, ProjectAdded, Quote

HEAVY = ("dspy", "pydantic_ai", "litellm", "redis", "dramatiq", "opentelemetry.sdk", "logfire", "click")
SAID = Quote("We use Postgres for orders", "s", "session-s", "claude_code", 3, "user")


@pytest.fixture
def lerim(tmp_path: Path) -> Iterator[api.Lerim]:
    with api.open(tmp_path / "h", env={"HOME": str(tmp_path)}, here=tmp_path / "shop" / "src") as opened:
        folder = str((tmp_path / "shop").resolve())
        opened.state.store.append("project-p", [ProjectAdded("p", "shop", folder, "h")])
        add(opened, "aaaaaaaa11", "Postgres for orders", "We use Postgres for orders", quotes=[SAID])
        add(opened, "bbbbbbbb22", "Tabs", "Tabs, never spaces", kind="preference")
        add(opened, "cccccccc33", "Feature flags", "Behind flags", kind="insight")
        opened.state.store.append("memory-cccccccc33", [MemoryArchived("cccccccc33", "faded")])
        yield opened


def add(lerim: api.Lerim, memory_id: str, title: str, body: str, **fields: Any) -> None:
    given = {"project_id": "p", "kind": "decision", "confidence": 0.8, **fields}
    lerim.state.store.append(f"memory-{memory_id}", [MemoryAdded(memory_id, title=title, body=body, **given)])


def request(lerim: api.Lerim, job_id: str, **params: Any) -> None:
    trace: dict[str, Any] = {"trace_id": "1" * 32, "root_span_id": "2" * 16, "start_ns": 1}
    event = JobRequested(kind="ask", params=params, scope="all", requested_by="test", host="h", **trace)
    request_job(lerim.state.store, job_id, event)


def test_lists_and_search_give_memories_with_their_project_and_proof(lerim: api.Lerim) -> None:
    assert {one.memory_id for one in lerim.memories()} == {"aaaaaaaa11", "bbbbbbbb22"}
    assert len(lerim.memories(everything=True)) == 3
    assert [one.title for one in lerim.memories(kind="preference")] == ["Tabs"]
    (found,) = lerim.search("postgres")
    assert (found.memory_id, found.project, found.quote) == ("aaaaaaaa11", "shop", SAID.text)
    assert lerim.search("postgres", as_of="2001-01-01") == []
    assert [one.memory_id for one in lerim.search("tabs", project="shop", as_of=iso(now_ms() + 1000))] == ["bbbbbbbb22"]


def test_a_memory_is_shown_with_its_origins_and_looking_counts_as_use(lerim: api.Lerim) -> None:
    shown = lerim.show("aaaa")
    assert (shown.memory_id, shown.by_hand, [one.quote for one in shown.origins]) == ("aaaaaaaa11", False, [SAID])
    assert "MemoryAccessed" in [row.type for row in lerim.state.store.read("project-p")]


def test_context_is_that_of_the_project_around_here(lerim: api.Lerim, tmp_path: Path) -> None:
    found = lerim.context(budget_tokens=200)
    assert (found.project, len(found.memories)) == ("shop", 2)
    assert found.tokens <= 200
    assert "Tabs" in found.markdown
    with api.open(tmp_path / "h", env={"HOME": str(tmp_path)}, here=tmp_path) as outside:
        assert outside.context() == api.Context(None)
        assert outside.context(project="shop").markdown == lerim.context().markdown


def test_jobs_are_shown_as_they_stand_also_behind_a_paused_queue(lerim: api.Lerim) -> None:
    request(lerim, "ask-1", question="why?", limit=3)
    assert (lerim.job("ask-1").status, lerim.job("ask-1").answer) == ("requested", None)
    pause_queue(lerim.state.store, "ask")
    assert [one.status for one in lerim.jobs()] == ["paused"]
    assert lerim.jobs(status="requested") == []


def test_status_counts_what_there_is(lerim: api.Lerim) -> None:
    request(lerim, "ask-1", question="why?", limit=3)
    found = lerim.status()
    assert (found.workers, found.scheduler, found.jobs, found.queues) == ([], None, {"requested": 1}, {"ask": 1})
    assert [one.name for one in found.projects] == ["shop"]
    assert set(json.loads(msgspec.json.encode(found))) == set(Status.__struct_fields__)


def test_what_does_not_exist_or_fit_is_refused_before_anything_is_written(lerim: api.Lerim) -> None:
    before = lerim.state.store.position()
    refused: list[tuple[Callable[[], object], str]] = [
        (lambda: lerim.job("ask-9"), "'ask-9'"),
        (lambda: lerim.follow("ask-9"), "'ask-9'"),
        (lambda: lerim.show("zzz"), "'zzz'"),
        (lambda: lerim.search("x", project="nowhere"), "'nowhere'"),
        (lambda: lerim.search("x", limit=0), "at least 1"),
        (lambda: lerim.memories(limit=0), "at least 1"),
        (lambda: lerim.context(budget_tokens=99), "at least 100"),
        (lambda: lerim.ask("why?", limit=101), "at most 100"),
        (lambda: lerim.ask("  "), "empty"),
        (lambda: lerim.ask("why?", as_of="yesterday"), "'yesterday'"),
        (lambda: lerim.sync(window="7 days"), "'7 days'"),
        (lambda: lerim.sync(agents=["claud"]), "'claud'"),
        (lambda: lerim.maintain(project="nowhere"), "'nowhere'"),
    ]
    for call, word in refused:
        with pytest.raises(BadInput, match=word):
            call()
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        lerim.ask("why?", wait=False)
    assert lerim.state.store.position() == before


def test_values_are_frozen(lerim: api.Lerim) -> None:
    with pytest.raises(AttributeError):
        lerim.memories()[0].title = "other"  # type: ignore[misc]


def test_threads_share_one(lerim: api.Lerim) -> None:
    def look(n: int) -> list[str]:
        assert lerim.status().projects
        assert lerim.show("bbbb").title == "Tabs"
        return [one.memory_id for one in (*lerim.search("postgres"), *lerim.memories(kind="preference"))]

    with ThreadPoolExecutor(6) as pool:
        assert set(map(tuple, pool.map(look, range(24)))) == {("aaaaaaaa11", "bbbbbbbb22")}


def test_importing_and_reading_load_no_model_library_no_queue_and_no_telemetry(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom lerim_jobs import api\n"
        "with api.open(sys.argv[1], env={}) as lerim:\n"
        "    lerim.memories(), lerim.search('x'), lerim.context(), lerim.jobs(), lerim.status()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "h")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr
