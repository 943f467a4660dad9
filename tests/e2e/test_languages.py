"""A session in other languages than English: synced, proved, filed by its title, found again, and answered from."""

from __future__ import annotations

import pytest

from lerim_jobs.ids import slug
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.memory.checks.evidence import unsupported
from tests.e2e.world import World
from tests.languages import LANGUAGES

pytestmark = pytest.mark.xdist_group("memory machine")


def test_what_was_said_in_any_language_is_filed_found_and_answered(shared: World, ids: list[str]) -> None:
    said = {one.language: one.said.partition(".")[0][:90].strip() for one in LANGUAGES}  # a title of the scripted model
    shared.session(ids[0], [f"REMEMBER: {sentence}" for sentence in said.values()])
    assert shared.sync()["memories"]["added"] == len(said)
    titles = {one["title"]: one["memory_id"] for one in shared.memories()}
    assert titles.keys() == set(said.values())
    store = SqliteStore(shared.home.log)
    assert unsupported(store)[1] == []
    store.close()
    names = [path.name for path in (shared.project / ".lerim" / "memory" / "decisions").iterdir()]
    for title, memory_id in titles.items():
        assert [name for name in names if f"-{slug(title)}-{memory_id[:8]}.md" in name], names
    for one in LANGUAGES:
        (first, *_) = shared.json("memory", "search", one.asked[0], "--project", shared.name)
        assert first["memory_id"] == titles[said[one.language]], one.language
    (answer,) = shared.json("ask", "购物车数据放在哪里?", "--project", shared.name)
    assert answer["citations"] == [titles[said["Chinese"]]]
    shared.session(ids[1], ["REMEMBER: " + said["Chinese"].replace("14", "30")], day=2)
    assert shared.sync()["memories"]["added"] == 1
