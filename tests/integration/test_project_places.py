"""A project whose folder was moved, and sessions in its worktrees: nothing that belonged to it stays behind."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from lerim_jobs.log.events import ProjectAdded, ProjectPlaceSeen
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.projects import project_stream
from tests.git import git, needs_git
from tests.here import PROJECT, Here
from tests.integration.test_cli import lerim, refused
from tests.transcripts import write_claude

ONE, TWO = (f"bbbbbbbb-0000-4000-8000-00000000000{n}" for n in (1, 2))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state folder with the project `shop` and one memory."""
    (tmp_path / "shop").mkdir()
    home = tmp_path / "h"
    lerim(home, "project", "add", str(tmp_path / "shop"))
    added = lerim(home, "memory", "add", "Tabs", "--project", "shop", "--body", "We use tabs.")
    assert added.returncode == 0, added.stderr
    return home


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def projects(home: Path) -> dict[str, Any]:
    return {one["name"]: one for one in map(json.loads, lerim(home, "project", "list", "--json").stdout.splitlines())}


def titles(home: Path, project: str) -> list[str]:
    lines = lerim(home, "memory", "list", "--project", project, "--json").stdout.splitlines()
    return [json.loads(line)["title"] for line in lines]


def test_a_moved_project_goes_along_and_back(home: Path, tmp_path: Path) -> None:
    before = projects(home)["shop"]
    shutil.move(tmp_path / "shop", tmp_path / "webshop")
    assert projects(home)["shop"]["gone"] is True
    moved = answer(lerim(home, "project", "move", "shop", str(tmp_path / "webshop"), "--json"))
    assert (moved["project_id"], moved["name"], moved["moved_from"]) == (
        before["project_id"],
        "webshop",
        before["path"],
    )
    assert projects(home)["webshop"]["places"] == [before["path"]]
    assert titles(home, "webshop") == ["Tabs"]
    (path,) = (tmp_path / "webshop").rglob("*tabs*.md")
    path.write_text(path.read_text().replace("We use tabs.", "We use four."))
    shutil.move(tmp_path / "webshop", tmp_path / "shop")
    assert answer(lerim(home, "project", "move", str(tmp_path / "webshop"), str(tmp_path / "shop"), "--json"))
    assert projects(home)["shop"]["path"] == before["path"]
    (path,) = (tmp_path / "shop").rglob("*tabs*.md")
    assert "We use four." in path.read_text()


def test_adding_the_new_folder_is_enough(home: Path, tmp_path: Path) -> None:
    shutil.move(tmp_path / "shop", tmp_path / "webshop")
    said = lerim(home, "project", "add", str(tmp_path / "webshop")).stdout
    assert f"from {tmp_path / 'shop'} to {tmp_path / 'webshop'}" in said
    assert titles(home, "webshop") == ["Tabs"]
    assert len(projects(home)) == 1


def test_a_name_that_was_chosen_stays(home: Path, tmp_path: Path) -> None:
    lerim(home, "project", "add", str(tmp_path / "shop"), "--name", "the shop")
    shutil.move(tmp_path / "shop", tmp_path / "webshop")
    assert answer(lerim(home, "project", "add", str(tmp_path / "webshop"), "--json"))["name"] == "the shop"


@pytest.mark.parametrize("still", ["there", "elsewhere"])
def test_a_copy_is_a_project_of_its_own(home: Path, tmp_path: Path, still: str) -> None:
    """While the old folder is there nothing was moved; nor may another host's folder be told to be gone."""
    if still == "elsewhere":
        one = projects(home)["shop"]
        store = SqliteStore(home / "log.sqlite3")
        store.append(
            project_stream(one["project_id"]), [ProjectAdded(one["project_id"], "shop", one["path"], "another")]
        )
        store.close()
        shutil.move(tmp_path / "shop", tmp_path / "copy")
    else:
        shutil.copytree(tmp_path / "shop", tmp_path / "copy")
    made = answer(lerim(home, "project", "add", str(tmp_path / "copy"), "--json"))
    assert (made["moved_from"], len(projects(home))) == (None, 2)
    assert titles(home, "shop") == ["Tabs"]


def test_the_old_folder_can_be_another_project_afterwards(home: Path, tmp_path: Path) -> None:
    shutil.move(tmp_path / "shop", tmp_path / "webshop")
    lerim(home, "project", "move", "shop", str(tmp_path / "webshop"))
    (tmp_path / "shop").mkdir()
    made = answer(lerim(home, "project", "add", str(tmp_path / "shop"), "--json"))
    assert made["already"] is False
    assert made["project_id"] != projects(home)["webshop"]["project_id"]
    assert titles(home, "shop") == []


def test_what_cannot_be_moved_is_one_line(home: Path, tmp_path: Path) -> None:
    refused(lerim(home, "project", "move", "shop", str(tmp_path / "none")), 2, "not a folder")
    refused(lerim(home, "project", "move", "nobody", str(tmp_path)), 2, "'nobody'", "shop")
    (tmp_path / "new").mkdir()
    refused(lerim(home, "project", "move", "shop", str(tmp_path / "new")), 2, "is still there")
    lerim(home, "project", "add", str(tmp_path / "new"))
    refused(lerim(home, "project", "move", "shop", str(tmp_path / "new")), 2, "lerim project remove new")
    assert set(projects(home)) == {"shop", "new"}


@pytest.fixture
def here(tmp_path: Path) -> Any:
    place = Here(tmp_path)
    yield place
    place.close()


def test_a_sync_says_that_the_folder_is_gone_and_where_it_seems_to_be(here: Here) -> None:
    here.session(ONE, ["We decided to use tabs in the shop."])
    here.sync()
    assert here.sync()["gone"] == []
    shutil.move(here.project, here.root / "webshop")
    (here.root / "other").mkdir()
    told = {"name": "shop", "path": str(here.project), "moved_to": str(here.root / "webshop")}
    assert here.sync()["gone"] == [told]
    shutil.move(here.root / "webshop", here.root / "other" / "webshop")
    assert here.sync()["gone"] == [{**told, "moved_to": None}]


@needs_git
def test_a_session_in_a_worktree_is_the_projects_and_still_is_when_the_worktree_is_gone(here: Here) -> None:
    (here.project / "code").write_text("x")
    git(here.project, "init", "-q", "-b", "main")
    git(here.project, "add", "-A")
    git(here.project, "commit", "-qm", "start")
    side = here.root / "trees" / "ab12" / "shop"
    git(here.project, "worktree", "add", "-q", "-b", "side", str(side))
    write_claude(here.root / "claude", ONE, str(side), ["We decided to use Kafka for the carts."])
    assert here.sync()["memories"]["added"] == 1
    places = [row.event for row in here.store.read(project_stream(PROJECT)) if row.type == "ProjectPlaceSeen"]
    assert places == [ProjectPlaceSeen(PROJECT, str(side))]
    git(here.project, "worktree", "remove", "--force", str(side))
    git(here.project, "worktree", "prune")
    write_claude(here.root / "claude", TWO, str(side), ["We decided to use Postgres for the orders."])
    assert here.sync()["memories"]["added"] == 1
    assert [one.project_id for one in here.memories()] == [PROJECT, PROJECT]
    assert here.sync()["left"] == {}
