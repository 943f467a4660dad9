"""What a store keeps beside its events: all of it is in one list, and what is derived comes back from the log."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lerim_jobs
from lerim_jobs.care.derived import COUNTED, NOTES, VIEWS
from lerim_jobs.care.rebuild import rebuild_all
from lerim_jobs.care.retain import retain
from lerim_jobs.config import Budget, Retention, Settings
from lerim_jobs.errors import Parked
from lerim_jobs.jobs import budget, deaths, outcomes, pausing
from lerim_jobs.jobs.cancelling import cancel
from lerim_jobs.jobs.claims import Claim
from lerim_jobs.jobs.closing import close_trace
from lerim_jobs.jobs.outcomes import End
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import MemoryAdded, ProjectAdded, SessionIndexed
from lerim_jobs.log.projection import View, catch_up, parts_of
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.store import Store
from lerim_jobs.memory.files.publishing import publish_now
from lerim_jobs.paths import Home
from tests.contracts.test_budget import wish
from tests.contracts.test_claims import done, everyone_lives, nobody_lives, requested, started_sync, taken
from tests.memory_store import MemoryStore
from workers.log_journal import LogJournal
from workers.models.calls import Called

CALL = Called("lead", "h", 0, "m", "m", "openai", 5, 5, 10, cost_usd=0.25)
OWNER = "machine/1/a"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "h").ensure()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, home: Home) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(home.log)
    yield made
    made.close()


def ask(store: Store, job: str) -> Claim:
    request_job(store, job, requested("ask", scope=job))
    return taken(store, "answer", OWNER, job)


def answer(store: Store, held: Claim) -> None:
    """An answer of a model, through the journal: admitted, paid, kept for replay; and one that is still under way."""
    journal = LogJournal(store, held, session_id=None, project_id="p", caps_now=Settings, meta={})
    about = {"role": "lead", "provider": "openai", "usd": 0.5, "tokens": 10, "hold_ms": 60_000}
    key = journal.admit(about, "h", 0)
    assert isinstance(key, str)
    journal.record(CALL, b'{"said":"yes"}', [key])
    journal.admit(about, "h", 1)


def parked(store: Store, held: Claim) -> None:
    poor = Settings(budget=Budget(per_day_usd=0.0))
    with pytest.raises(Parked) as caught:
        budget.admit(store, "k", wish(job_id=held.job_id), poor, alive=everyone_lives)
    assert caught.value.waits_for
    assert outcomes.park(store, held, waits_for=caught.value.waits_for, message="")


def ended(store: Store, job: str) -> None:
    done(store, ask(store, job))
    done(store, taken(store, "finish", OWNER, job), end=End("succeeded", {}))


def published(store: Store, project: Path) -> None:
    store.append("project-p", [ProjectAdded("p", "shop", str(project), "h")])
    store.append("memory-m", [MemoryAdded("m", "p", "decision", "Tabs", "We use tabs.", 0.9)])
    publish_now(store, "p")
    for path in project.rglob("*.md"):
        os.utime(path, (1, 1))
    publish_now(store, "p")


def live(store: Store, home: Home) -> None:
    """Everything that leaves a document: jobs that run, died, are paused, parked, over; money, sessions, files, tidying."""
    project = home.root.parent / "shop"
    project.mkdir()
    published(store, project)
    store.append("session-codex-1", [SessionIndexed("codex", "s", "/s", "h", 9, 1, 1, 1, "t", 0, 3, None)])
    started_sync(store)
    for _ in range(3):
        taken(store, "extract:a:0", OWNER, alive=nobody_lives)
    deaths.saw_exit(store, "machine", 1, -9)
    answer(store, ask(store, "asks"))
    pausing.pause_job(store, "asks")
    pausing.pause_queue(store, "agent")
    parked(store, ask(store, "poor"))
    for job in ("over", "closed"):
        ended(store, job)
    answer(store, ask(store, "cancelled"))
    cancel(store, "cancelled")
    assert close_trace(store, "closed", OWNER, lambda _: 1, alive=everyone_lives, remote=True)
    retain(store, home, Retention(), every_ms=-1)
    for view in VIEWS:
        catch_up(store, view)


def documents(store: Store) -> dict[str, list[tuple[str, bytes]]]:
    return {view: store.docs(view) for view in store.doc_views()}


def declared() -> list[str]:
    views = [name for view in VIEWS for name in (view.name, *([parts_of(view.name)] if view.part else []))]
    return [*views, *COUNTED, *NOTES]


def is_named(view: str, name: str) -> bool:
    return view.startswith(name) if name.endswith((":", "-")) else view == name


def views_of_the_code() -> dict[str, View[Any]]:
    found = {}
    for module in pkgutil.walk_packages(lerim_jobs.__path__, "lerim_jobs."):
        if not module.name.endswith("__main__"):
            values = vars(importlib.import_module(module.name)).values()
            found.update({value.name: value for value in values if isinstance(value, View)})
    return found


def test_every_document_of_a_rich_life_is_in_one_list_and_nothing_else_is(store: Store, home: Home) -> None:
    live(store, home)
    found = store.doc_views()
    assert [view for view in found if not any(is_named(view, name) for name in declared())] == []
    assert [name for name in declared() if not any(is_named(view, name) for view in found)] == []


def test_every_view_of_the_code_is_rebuilt() -> None:
    assert views_of_the_code() == {view.name: view for view in VIEWS}


def test_all_that_is_derived_comes_back_from_the_log_and_is_named(store: Store, home: Home) -> None:
    live(store, home)
    before = documents(store)
    assert rebuild_all(store, home).changed == []
    assert documents(store) == before
    derived = [view for view in before if not any(is_named(view, name) for name in NOTES)]
    with store.write() as tx:
        for view in derived:
            tx.clear_docs(view)
            tx.put_doc(view, "nobody", b"{}")
        tx.put_doc("_journal:cancelled", "left behind", b"0" * 64)
    names = [view.name for view in VIEWS] + [name for name, _ in COUNTED.values()]
    assert rebuild_all(store, home).changed == names
    # Who is about to close a trace is a lease, which nothing but time brings back.
    after = documents(store)
    assert dict(after.pop("_unclosed")).keys() == dict(before.pop("_unclosed")).keys()
    assert after == before


def test_a_lost_row_of_a_file_comes_back_and_is_named(store: Store, home: Home) -> None:
    live(store, home)
    row = store.doc("files", "m")
    with store.write() as tx:
        tx.put_doc("files", "m", None)
    assert rebuild_all(store, home).changed == ["files"]
    assert store.doc("files", "m") == row != None  # noqa: E711


def test_what_is_only_a_note_may_be_lost_without_harm(store: Store, home: Home) -> None:
    live(store, home)
    before = documents(store)
    with store.write() as tx:
        for view in before:
            if any(is_named(view, name) for name in NOTES):
                tx.clear_docs(view)
    assert rebuild_all(store, home).changed == ["claim rows"], "what was parked finds out again"
    answer(store, taken(store, "extract:a:1", OWNER))
    parked(store, taken(store, "answer", OWNER, "poor", alive=nobody_lives))
