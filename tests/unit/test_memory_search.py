"""Search: what is found and in which order, and an index that is never anything but a cache of the log."""

from __future__ import annotations

import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.log.events import (
    MemoryAdded,
    MemoryArchived,
    MemoryEdited,
    MemoryRedacted,
    MemoryRestored,
    ProjectAdded,
    Quote,
    SessionIndexed,
)
from lerim_jobs.log.projection import fold_all
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.memory.search import index as search_module
from lerim_jobs.memory.search import ranking
from lerim_jobs.memory.search.index import SearchIndex, index_of, search_memories
from lerim_jobs.memory.stored import all_memories
from lerim_jobs.paths import Home
from lerim_jobs.sessions.session import SESSIONS
from lerim_jobs.sessions.transcript import Segment, Turn, encode
from workers.memories import Memories


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "log.sqlite3")
    yield made
    made.close()


@pytest.fixture
def index(tmp_path: Path, store: SqliteStore) -> Iterator[SearchIndex]:
    made = SearchIndex(tmp_path / "search.sqlite3", store)
    yield made
    made.close()


def add(store: SqliteStore, memory_id: str, title: str, body: str = "", **fields: Any) -> None:
    given = {"project_id": "p", "kind": "decision", "confidence": 0.8, **fields}
    store.append(f"memory-{memory_id}", [MemoryAdded(memory_id=memory_id, title=title, body=body, **given)])


def say(store: SqliteStore, *texts: str, after: int = 0) -> None:
    """Store turns of session `s`."""
    turns = [Turn(n, "user", text, f"{n:016x}") for n, text in enumerate(texts, after)]
    with store.write() as tx:
        blob = tx.put_blob(encode(Segment("codex", "s", turns)))
        about: dict[str, Any] = {
            "path": "/s",
            "host": "h",
            "size_bytes": 1,
            "mtime_ns": 1,
            "inode": 1,
            "offset": 1,
            "tail_hash": "",
        }
        indexed = SessionIndexed("codex", "s", turn_from=after, turn_to=after + len(turns), blob=blob, **about)
        tx.append("session-codex-s", [indexed])


def quote(text: str, turn: int) -> Quote:
    return Quote(text, "s", "session-codex-s", "codex", turn, "user")


def watch(store: SqliteStore) -> list[str]:
    """The documents that are read from now on, as view/key; reading all of a view fails."""
    read: list[str] = []
    doc = store.doc

    def noted(view: str, key: str) -> bytes | None:
        read.append(f"{view}/{key}")
        return doc(view, key)

    store.doc, store.docs = noted, None  # type: ignore[method-assign,assignment]
    return read


def found(index: SearchIndex, query: str, **options: Any) -> list[str]:
    index.catch_up()
    return [hit.memory_id for hit in index.search(query, **{"limit": 10, **options})]


# --- what is found ---------------------------------------------------------------------------------
def test_words_are_stemmed_titles_weigh_more_and_projects_are_kept_apart(
    store: SqliteStore, index: SearchIndex
) -> None:
    add(store, "carts", "Carts expire", "In Redis.")
    add(store, "other", "Redis", "A cart is mentioned.", project_id="q")
    add(store, "old", "Carts expire", "In Redis.")
    store.append("memory-old", [MemoryArchived("old")])
    assert found(index, "When do the carts expire?") == ["carts", "other"]
    assert found(index, "expiring cart", project_ids=["q"]) == ["other"]
    assert found(index, "cart", project_ids=["p", "q"], limit=1) == ["carts"]
    assert found(index, "cart", project_ids=[]) == []
    assert "old" in found(index, "carts", include_archived=True)
    assert found(index, "what is the") == []
    assert found(index, "kubernetes") == []


def test_neighbouring_turns_find_a_memory_but_count_less_than_its_own_words(
    store: SqliteStore, index: SearchIndex
) -> None:
    say(store, "The checkout page times out under load.", "Then we pool connections.", "I set pgbouncer to 20.", "Bye")
    add(store, "pool", "Pool connections", quotes=[quote("we pool connections", 1)])
    add(store, "page", "Checkout page", "It is rendered on the server.")
    assert found(index, "checkout page") == ["page", "pool"]
    assert found(index, "pgbouncer") == ["pool"]
    assert found(index, "bye") == []


def test_the_turn_behind_a_quote_is_found_once_the_session_has_grown(store: SqliteStore, index: SearchIndex) -> None:
    say(store, "Use tabs from now on.")
    add(store, "tabs", "Tabs", quotes=[quote("Use tabs from now on.", 0)])
    assert found(index, "gofmt") == []
    say(store, "gofmt does that anyway.", after=1)
    assert found(index, "gofmt") == ["tabs"]


def test_a_transcript_that_cannot_be_read_leaves_the_memory_its_own_words(
    store: SqliteStore, index: SearchIndex
) -> None:
    say(store, "Use tabs from now on.", "fine")
    (segment,) = fold_all(store, SESSIONS)["session-codex-s"].segments
    with store.write() as tx:
        tx.drop_blob(segment.blob)
    add(store, "tabs", "Tabs", quotes=[quote("Use tabs from now on.", 0), quote("never said", 99)])
    assert found(index, "tabs") == ["tabs"]


@pytest.mark.parametrize(
    "query",
    [
        '"',
        "a OR",
        "NEAR(",
        "x*",
        "title:x",
        "'; DROP TABLE texts",
        "é☃ 漢字",
        "(",
        "-",
        "^a",
        "",
        "{}",
        "{0} tabs",
        "\0 a",
    ],
)
def test_no_query_is_syntax(store: SqliteStore, index: SearchIndex, query: str) -> None:
    add(store, "m", "Tabs")
    found(index, query, project_ids=["p"])
    assert found(index, "tabs") == ["m"]


def test_long_queries_are_cut() -> None:
    assert len(ranking.words(" ".join(f"word{n}" for n in range(500)))) == 40


def test_common_words_are_bounded_and_the_best_match_is_still_found(
    store: SqliteStore, index: SearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ranking, search_module):
        monkeypatch.setattr(module, "MOST_RANKED", 20)
    add(store, "pair", "Orders database")
    add(store, "rare", "Zebra")
    for n in range(60):
        add(store, f"orders{n}", "Orders list", "Seen.")
        add(store, f"db{n}", "Database page", "Seen.")
    assert found(index, "orders database")[0] == "pair"
    assert set(found(index, "orders database zebra")[:2]) == {"pair", "rare"}
    assert len(found(index, "seen")) == 10
    ranked: list[int] = []
    score = ranking.Scorer.__call__

    def counted(self: ranking.Scorer, api: apsw.FTS5ExtensionApi) -> float:
        ranked.append(1)
        return score(self, api)

    monkeypatch.setattr(ranking.Scorer, "__call__", counted)
    found(index, "orders database seen page list")
    assert 0 < len(ranked) <= 80


def test_only_hits_are_loaded_and_what_is_gone_since_is_not_shown(store: SqliteStore, index: SearchIndex) -> None:
    add(store, "one", "Tabs")
    add(store, "two", "Spaces")
    index.catch_up()
    read = watch(store)
    assert [memory.title for memory in search_memories(index, store, "tabs", limit=5)] == ["Tabs"]
    assert [key for key in read if key.startswith("memories/")] == ["memories/one"]
    store.append("memory-one", [MemoryArchived("one")])
    assert search_memories(index, store, "tabs", limit=5) == []


def test_an_index_in_memory_holds_just_what_it_is_given(store: SqliteStore) -> None:
    add(store, "one", "Tabs")
    add(store, "two", "Tabs and spaces", project_id="q")
    memories = all_memories(store)
    assert [hit.memory_id for hit in index_of(memories.values()).search("tabs", limit=5)] == ["one", "two"]
    assert index_of([memories["two"]]).search("tabs", limit=5, project_ids=["p"]) == []


# --- a cache of the log ----------------------------------------------------------------------------
def test_each_change_is_found_anew(store: SqliteStore, index: SearchIndex) -> None:
    add(store, "m", "Tabs")
    assert found(index, "tabs") == ["m"]
    store.append("memory-m", [MemoryEdited("m", "Spaces", "Now spaces.", 0.8)])
    assert (found(index, "tabs"), found(index, "spaces")) == ([], ["m"])
    store.append("memory-m", [MemoryArchived("m")])
    assert found(index, "spaces") == []
    store.append("memory-m", [MemoryRestored("m")])
    assert found(index, "spaces") == ["m"]
    store.append("memory-m", [MemoryRedacted("m", "secret")])
    assert (found(index, "spaces", include_archived=True), found(index, "redacted", include_archived=True)) == ([], [])


def test_catching_up_loads_only_what_changed(store: SqliteStore, index: SearchIndex) -> None:
    for n in range(30):
        add(store, f"m{n}", f"Title {n}")
    index.catch_up()
    read = watch(store)
    store.append("project-p", [ProjectAdded("p", "shop", "/p", "h")])
    index.catch_up()
    assert [key for key in read if key.startswith("memories/")] == []
    store.append("memory-m3", [MemoryEdited("m3", "Other", "", 0.8)])
    index.catch_up()
    assert {key for key in read if key.startswith("memories/")} == {"memories/m3"}


def test_a_rebuilt_index_answers_as_the_grown_one_did(tmp_path: Path, store: SqliteStore, index: SearchIndex) -> None:
    for n in range(20):
        add(store, f"m{n}", f"Cart rule {n}", "Carts expire." if n % 2 else "Carts stay.")
        index.catch_up()
    store.append("memory-m4", [MemoryEdited("m4", "Cart", "Expire soon.", 0.8)])
    index.catch_up()
    fresh = SearchIndex(tmp_path / "fresh.sqlite3", store)
    fresh.catch_up()
    for query in ("cart expires", "rule stay", "soon"):
        assert index.search(query, limit=30) == fresh.search(query, limit=30)
    fresh.close()


@pytest.mark.parametrize("garbage", [b"garbage" * 1000, b"", b"SQLite format 3\0" + b"x" * 5000])
def test_a_damaged_file_is_made_again_from_the_log(tmp_path: Path, store: SqliteStore, garbage: bytes) -> None:
    add(store, "m", "Tabs")
    SearchIndex(tmp_path / "search.sqlite3", store).close()
    for path in tmp_path.glob("search.sqlite3*"):
        path.write_bytes(garbage)
    again = SearchIndex(tmp_path / "search.sqlite3", store)
    assert found(again, "tabs") == ["m"]
    again.close()


def test_damage_that_shows_only_in_use_is_mended_in_use(tmp_path: Path, store: SqliteStore) -> None:
    for n in range(200):
        add(store, f"m{n}", f"Tabs {n}", "word " * 50)
    path = tmp_path / "search.sqlite3"
    index = SearchIndex(path, store)
    index.catch_up()
    index.close()
    data = bytearray(path.read_bytes())
    data[4096:] = b"\x7f" * (len(data) - 4096)
    path.write_bytes(data)
    index = SearchIndex(path, store)
    assert len(index.search("tabs", limit=300)) == 200
    assert len(found(SearchIndex(path, store), "tabs", limit=300)) == 200
    index.close()


def test_an_index_of_another_schema_or_another_log_starts_anew(tmp_path: Path, store: SqliteStore) -> None:
    path = tmp_path / "search.sqlite3"
    old = apsw.Connection(str(path))
    old.execute("CREATE TABLE texts(x)")
    old.pragma("user_version", 1)
    old.close()
    add(store, "m", "Tabs")
    index = SearchIndex(path, store)
    assert found(index, "tabs") == ["m"]
    index.close()
    restored = SqliteStore(tmp_path / "restored.sqlite3")
    add(restored, "n", "Spaces")
    for n in range(5):
        restored.append("project-p", [ProjectAdded("p", f"shop {n}", "/p", "h")])
    index = SearchIndex(path, restored)
    assert (found(index, "tabs"), found(index, "spaces")) == ([], ["n"])
    index.close()
    restored.close()


def test_the_index_is_for_its_owner_alone(tmp_path: Path, store: SqliteStore, index: SearchIndex) -> None:
    add(store, "m", "Tabs")
    index.catch_up()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("search.sqlite3*")}
    assert set(modes.values()) == {0o600}, modes


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, store: SqliteStore) -> None:
    (tmp_path / "search.sqlite3").mkdir()
    with pytest.raises(StoreUnavailable, match=r"search\.sqlite3"):
        SearchIndex(tmp_path / "search.sqlite3", store)


def test_threads_share_an_index_and_processes_a_file(tmp_path: Path, store: SqliteStore) -> None:
    for n in range(50):
        add(store, f"m{n}", f"Tabs {n}")
    program = (
        "import sys; from pathlib import Path; from lerim_jobs.log.sqlite import SqliteStore;"
        "from lerim_jobs.memory.search.index import SearchIndex; root = Path(sys.argv[1]);"
        "index = SearchIndex(root / 'search.sqlite3', SqliteStore(root / 'log.sqlite3'));"
        "index.catch_up(); print(len(index.search('tabs', limit=100)))"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    index = SearchIndex(tmp_path / "search.sqlite3", store)
    counts: list[int] = []

    def look() -> None:
        for _ in range(20):
            index.catch_up()
            counts.append(len(index.search("tabs", limit=100)))
        store.close()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [50] * 80
    assert [other.communicate(timeout=30)[0].strip() for other in others] == ["50"] * 3
    index.close()


# --- what agents see -------------------------------------------------------------------------------
def test_agents_see_their_project_only_and_one_version_of_each_memory(tmp_path: Path, store: SqliteStore) -> None:
    add(store, "mine", "Tabs")
    add(store, "theirs", "Tabs elsewhere", project_id="q")
    memories = Memories(store, Home(tmp_path), project_ids=["p"])
    assert [one.memory_id for one in memories.search("tabs", 10)] == ["mine"]
    assert memories.read("theirs") is None
    assert [one.memory_id for one in memories.list(None, 10)] == ["mine"]
    store.append("memory-mine", [MemoryEdited("mine", "Tabs always", "", 0.9)])
    assert [one.title for one in memories.search("tabs", 10)] == ["Tabs"]
    assert memories.by_id == {"mine": memories.read("mine")}
    everyone = Memories(store, Home(tmp_path), project_ids=None)
    assert sorted(one.memory_id for one in everyone.list("decision", 10)) == ["mine", "theirs"]
    assert everyone.list("pitfall", 10) == []
    assert everyone.by_id == all_memories(store)
    assert msgspec.structs.asdict(everyone.by_id["mine"])["version"] == 2
