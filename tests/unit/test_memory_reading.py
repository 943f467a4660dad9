"""Who needs a few memories reads a few, however many there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lerim_jobs.api.following import job_of
from lerim_jobs.api.state import State, find_memory
from lerim_jobs.cli.jobs.follow import show_result
from lerim_jobs.config import Settings
from lerim_jobs.errors import BadInput
from lerim_jobs.jobs.line import JobLine
from lerim_jobs.log.events import MemoryAdded, MemoryArchived, MemoryKind, MemoryUpdated, Quote
from lerim_jobs.memory.search.index import SearchIndex, newest_memories
from lerim_jobs.memory.stored import all_memories, find_ids, load_memories
from lerim_jobs.paths import Home
from tests.counting_store import CountingStore
from workers.memories import Memories

MANY = 60


@pytest.fixture
def store() -> CountingStore:
    store = CountingStore()
    for number in range(MANY):
        add(store, f"m{number:02}", quoting=f"session-codex-{number % 20}")
    all_memories(store)
    store.read_keys.clear()
    return store


def add(store: CountingStore, key: str, *, quoting: str, project_id: str = "p", kind: MemoryKind = "insight") -> None:
    quote = Quote("we said so", "s", quoting, "codex", 4, "user", None)
    store.append(f"memory-{key}", [MemoryAdded(key, project_id, kind, f"Title of {key}", "B", 0.8, [], [quote])])


def state_of(store: CountingStore, root: Path) -> State:
    opened: Any = store
    return State({}, Settings(), Home(root), opened, here=root, tell=print, by="test")


def test_an_answer_reads_the_memories_it_cites(
    store: CountingStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = {"answer": "So it is.", "citations": ["m07", "gone", "m31"]}
    line = JobLine("ask-1", "ask", "succeeded", 1, "", "cli", "t", sampled=False, result=result)
    assert show_result(state_of(store, tmp_path), job_of(line), as_json=False) == 0
    assert capsys.readouterr().out == "So it is.\n\n[m07] Title of m07\n[gone] \n[m31] Title of m31\n"
    assert store.read_keys == ["m07", "gone", "m31"]


def test_the_beginning_of_an_id_reads_only_what_begins_so(store: CountingStore, tmp_path: Path) -> None:
    state = state_of(store, tmp_path)
    assert find_ids(store, "m0") == [f"m{number:02}" for number in range(10)]
    assert (find_ids(store, "m42"), find_ids(store, "x"), find_ids(store, "")) == (["m42"], [], [])
    assert len(store.read_keys) <= 10 + len(["m0", "m42", "x"])
    add(store, "m420", quoting="s")
    assert find_memory(state, "m42").memory_id == "m42"
    with pytest.raises(BadInput, match="several memories begin with 'm4'"):
        find_memory(state, "m4")
    with pytest.raises(BadInput, match="there is no memory ''"):
        find_memory(state, "")


def test_the_memories_of_a_session_are_found_by_its_quotes(store: CountingStore, tmp_path: Path) -> None:
    stream = "session-codex-7"
    add(store, "summary", quoting=stream, kind="summary")
    add(store, "elsewhere", quoting=stream, project_id="q")
    store.append("memory-m27", [MemoryArchived("m27")])
    store.append("memory-m07", [MemoryUpdated("m07", "Newest", "B", 0.8)])
    memories = Memories(store, Home(tmp_path), project_ids=["p"])
    store.read_keys.clear()
    assert [one.memory_id for one in memories.of_session(stream, 10)] == ["m07", "m47"]
    assert [one.memory_id for one in memories.of_session(stream, 1)] == ["m07"]
    assert memories.of_session("session-codex-none", 10) == []
    assert set(store.read_keys) == {"m07", "m27", "m47", "summary", "elsewhere"}


def test_by_id_loads_one_when_one_is_wanted_and_all_when_all_are(store: CountingStore, tmp_path: Path) -> None:
    add(store, "elsewhere", quoting="s", project_id="q")
    memories = Memories(store, Home(tmp_path), project_ids=["p"])
    store.read_keys.clear()
    first = memories.by_id.get("m03")
    assert first is not None
    assert ("m03" in memories.by_id, "elsewhere" in memories.by_id, memories.by_id.get("none")) == (True, False, None)
    assert set(store.read_keys) == {"m03", "elsewhere", "none"}
    store.append("memory-m03", [MemoryArchived("m03")])
    assert len(memories.by_id) == len(list(memories.by_id.values())) == MANY
    assert memories.by_id["m03"] is first


def test_a_list_reads_what_it_shows(store: CountingStore) -> None:
    store.append("memory-m05", [MemoryArchived("m05")])
    store.append("memory-m06", [MemoryUpdated("m06", "Newest", "B", 0.8)])
    add(store, "pitfall", quoting="s", project_id="q", kind="pitfall")
    index = SearchIndex(None, store)
    index.catch_up()
    store.read_keys.clear()
    newest = newest_memories(index, store, project_ids=["p"], limit=3)
    assert [one.memory_id for one in newest] == store.read_keys
    assert "m05" not in store.read_keys
    everything = sorted(all_memories(store).values(), key=lambda one: (-one.accessed_ms, one.memory_id))
    assert newest_memories(index, store, limit=1000, everything=True) == everything
    assert newest_memories(index, store, kind="pitfall", limit=9) == load_memories(store, ["pitfall"])
    assert newest_memories(index, store, project_ids=["q"], kind="insight", limit=9) == []
