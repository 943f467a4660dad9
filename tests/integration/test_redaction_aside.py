"""Redaction of what lies aside: logs that a restore replaced, copies from before an upgrade, backups. None is edited as text."""

from __future__ import annotations

import gzip
import tarfile
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from lerim_jobs.care import backup, restore
from lerim_jobs.jobs.settlement import plan
from lerim_jobs.log.events import MemoryAdded, MemoryUpdated, StageRequested
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.memory.stored import all_memories
from lerim_jobs.redaction.redact import Redaction
from lerim_jobs.sqlite import copy_database, damage
from tests.e2e.world import World
from tests.integration.test_care import count_events, old_log
from tests.integration.test_redaction import MARKER, SAID, TITLE, Machine, machine

__all__ = ["machine"]
LATER = "What was only said after the backup: the combination is 4711 and a half."
PATTERN = r"ZQX-\d+-[A-Z]+"


@pytest.fixture
def restored(machine: Machine) -> Iterator[Machine]:
    """A machine after a restore: all that was there before, and more, lies aside; and so does a copy of an old schema."""
    home = machine.home
    backup.back_up(home, machine.root / "old")
    machine.store.append("memory-aaaaaaaa1", [MemoryUpdated("aaaaaaaa1", "Later", LATER, 0.9, [], [])])
    machine.store.append("memory-dddddddd4", [MemoryAdded("dddddddd4", "p", "decision", "Other", LATER, 0.9)])
    machine.store.append("memory-eeeeeeee5", [MemoryAdded("eeeeeeee5", "p", "insight", TITLE, "nobody minds", 0.9)])
    with machine.store.write() as tx:
        plan(tx, "j", [StageRequested("curate:p", "agent", input={"about": SAID})], meta={})
    assert any(MARKER.encode() in row.input for row in machine.store.stages("j")), "claim rows repeat what events say"
    machine.store.close()
    restore.restore(home, machine.root / "old")
    copy = home.root / "log.sqlite3.schema-1.backup"
    copy_database(home.log, copy)
    db = apsw.Connection(str(copy))
    db.pragma("user_version", 1)
    db.close()
    machine.store = SqliteStore(home.log)
    assert {path.name for path in stores(machine)} == {
        *("log.sqlite3", "traces.sqlite3", "search.sqlite3", "log.sqlite3.schema-1.backup")
    }
    yield machine
    machine.store.close()


def stores(machine: Machine) -> list[Path]:
    """SQLite files of the state folder, whatever they are called."""
    files = [path for path in machine.home.root.rglob("*") if path.is_file()]
    return [path for path in files if path.read_bytes().startswith(b"SQLite format 3")]


def aside(machine: Machine) -> Path:
    [folder] = (machine.home.root / "before-restore").iterdir()
    return folder


def redaction(machine: Machine, how: str) -> Redaction:
    if how == "memory":
        return Redaction.of_memory(machine.store, machine.home, "aaaaaaaa1")
    return Redaction.of_pattern(machine.store, machine.home, PATTERN)


@pytest.mark.parametrize("how", ["memory", "pattern"])
def test_the_word_is_gone_from_stores_that_lie_aside_and_they_are_whole(restored: Machine, how: str) -> None:
    assert len({hit.partition(":")[0] for hit in restored.hits(MARKER) if "before-restore" in hit}) >= 2
    done = redaction(restored, how).apply(restored.publish)
    assert (done.left, restored.hits(MARKER)) == ([], [])
    assert {str(path): damage(path, thorough=True) for path in stores(restored)} == {
        str(path): None for path in stores(restored)
    }
    old = apsw.Connection(str(restored.home.root / "log.sqlite3.schema-1.backup"))
    assert old.pragma("user_version") == 1, "who goes back to the older version finds its own log"
    old.close()
    log = SqliteStore(aside(restored) / "log.sqlite3")
    memory = all_memories(log)["aaaaaaaa1"]
    assert (memory.status == "redacted") == (how == "memory")
    assert [row.version for row in log.read("memory-aaaaaaaa1")] == [1, 2, 3, 4][: 4 if how == "memory" else 3]
    assert len(log.read("redactions")) == 1
    assert all_memories(log)["bbbbbbbb2"].title == "Postgres it is"
    log.close()


def test_what_only_a_log_aside_says_of_the_memory_is_gone_as_well(restored: Machine) -> None:
    """Its newer versions went aside with the log that a restore replaced; another memory there says the same."""
    assert restored.hits(LATER)
    redaction(restored, "memory").apply(restored.publish)
    assert restored.hits(LATER) == []
    log = SqliteStore(aside(restored) / "log.sqlite3")
    assert all_memories(log)["dddddddd4"].body == "[REDACTED]"
    log.close()


def test_a_log_of_a_schema_that_nobody_writes_any_more_is_rewritten_in_its_own(restored: Machine) -> None:
    copy = restored.home.root / "log.sqlite3.schema-1.backup"
    copy.unlink()
    old_log(copy)
    db = apsw.Connection(str(copy))
    db.execute("UPDATE events SET data = json_set(data, '$.body', ?) WHERE type = 'MemoryAdded'", (SAID,))
    shapes = list(db.execute("SELECT sql FROM sqlite_schema ORDER BY name"))
    db.close()
    events = count_events(copy)
    assert redaction(restored, "pattern").apply(restored.publish).left == []
    assert restored.hits(MARKER) == []
    assert damage(copy, thorough=True) is None
    db = apsw.Connection(str(copy))
    assert (db.pragma("user_version"), list(db.execute("SELECT sql FROM sqlite_schema ORDER BY name"))) == (1, shapes)
    db.close()
    assert count_events(copy) == events + 1, "and the note that it was done"
    upgraded = SqliteStore(copy)
    assert len(upgraded.read("golden")) == events
    assert all(row.event for row in upgraded.read_all())
    upgraded.close()


def test_what_was_deleted_before_is_not_left_in_free_pages(restored: Machine) -> None:
    path = aside(restored) / "log.sqlite3"
    db = apsw.Connection(str(path))
    db.execute("DELETE FROM events; DELETE FROM blobs; DELETE FROM docs")
    db.close()
    assert MARKER.encode() in path.read_bytes()
    redaction(restored, "pattern").apply(restored.publish)
    assert restored.hits(MARKER) == []


def test_counting_includes_what_lies_aside_and_changes_nothing(restored: Machine) -> None:
    before = {path: path.read_bytes() for path in stores(restored) if path.parent != restored.home.root}
    counted = redaction(restored, "pattern").count()
    with_aside = counted.hits
    assert len(before) == 3
    assert {path: path.read_bytes() for path in before} == before
    for path in (aside(restored) / "log.sqlite3", restored.home.root / "log.sqlite3.schema-1.backup"):
        path.unlink()
    alone = redaction(restored, "pattern").count()
    assert with_aside > 2 * alone.hits
    assert (alone.events, alone.blobs) == (counted.events, counted.blobs) == (9, 3)


def test_a_store_that_is_damaged_is_left_as_it_is_and_named(restored: Machine) -> None:
    path = aside(restored) / "log.sqlite3"
    data = bytearray(path.read_bytes())
    data[4096 : 4096 * 4] = b"\xff" * 4096 * 3
    path.write_bytes(data)
    done = redaction(restored, "pattern").apply(restored.publish)
    assert [left.path for left in done.left] == [str(path)]
    assert path.read_bytes() == data
    assert done.left[0].hits > 0
    assert "cannot be" in done.left[0].why


def test_backups_in_the_state_folder_are_left_as_they_are_and_named(restored: Machine) -> None:
    folder = restored.home.root / "backups"
    for name in ("one.tar.gz", "two"):
        backup.back_up(restored.home, folder / name)
    archive = (folder / "one.tar.gz").read_bytes()
    assert MARKER.encode() not in archive, "it is packed"
    done = redaction(restored, "pattern").apply(restored.publish)
    assert {Path(left.path).relative_to(folder).parts[0] for left in done.left} == {"one.tar.gz", "two"}
    assert all(left.hits for left in done.left)
    assert (folder / "one.tar.gz").read_bytes() == archive
    restored.store.close()
    for name in ("one.tar.gz", "two"):
        restore.restore(restored.home, folder / name)


def test_a_database_that_is_not_ours_is_left_as_it_is_and_named(restored: Machine) -> None:
    """Also where the word stands across two pages, which no look at the bytes finds."""
    path = restored.home.root / "mine.db"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE notes(text)")
    for more in range(4060, 4100):
        db.execute("INSERT INTO notes VALUES(?)", ("x" * 4000 + MARKER + "x" * more,))
    db.close()
    before = path.read_bytes()
    done = redaction(restored, "pattern").apply(restored.publish)
    assert [(left.path, left.hits) for left in done.left] == [(str(path), 40)]
    assert 0 < before.count(MARKER.encode()) < 40
    assert path.read_bytes() == before


def test_files_that_are_no_text_are_never_edited(restored: Machine) -> None:
    folder = restored.memory.parent
    picture = b"\x89PNG\0\0" + MARKER.encode() + bytes(100)
    (folder / "picture.png").write_bytes(picture)
    packed = gzip.compress(b"nothing of it")
    (folder / "packed.gz").write_bytes(packed)
    with tarfile.open(restored.home.root / "broken.tar.gz", "w:gz"):
        pass
    (restored.home.root / "broken.tar.gz").write_bytes(b"\x1f\x8bnot really")
    done = redaction(restored, "pattern").apply(restored.publish)
    assert [Path(left.path).name for left in done.left] == ["picture.png", "broken.tar.gz"]
    assert (folder / "picture.png").read_bytes() == picture
    assert (folder / "packed.gz").read_bytes() == packed


def test_the_command_says_what_is_left_and_ends_with_3(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.lerim("project", "add", str(world.project))
    body = "The codename bluebird falcon is secret."
    world.lerim("memory", "add", "The codename is bluebird falcon", "--project", "shop", "--body", body)
    memory_id = world.memories()[0]["memory_id"]
    world.lerim("backup", str(tmp_path / "B"))
    world.lerim("restore", str(tmp_path / "B"), "--yes")
    world.lerim("backup")
    done = world.lerim("memory", "redact", memory_id, "--yes", expect=3)
    [line] = [line for line in done.stderr.splitlines() if "still there" in line]
    assert ".tar.gz: " in line
    assert "backup" in line
    [log] = world.home.root.glob("before-restore/*/log.sqlite3")
    assert damage(log, thorough=True) is None
    assert b"bluebird" not in log.read_bytes()
