"""Restoring against kills: at any moment of it one of the two states can be had whole, and none is made up."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from lerim_jobs.care import backup, restore
from lerim_jobs.care.backup import Manifest
from lerim_jobs.errors import BadInput, ConfigError, ConflictError, CorruptLog
from lerim_jobs.log.events import ProjectAdded, ProjectRemoved
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine import embedded
from lerim_jobs.paths import Home
from lerim_jobs.tracing.local.store import SpanStore
from lerim_jobs.tracing.skeleton.record import SpanRecord
from tests.e2e.world import World


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """The state of today, and `old` beside it: a copy of the state of yesterday."""
    home = Home(tmp_path / "h").ensure()
    written(home, "yesterday")
    backup.back_up(home, tmp_path / "old")
    written(home, "today")
    home.search.write_bytes(b"an index of today")
    return home


def written(home: Home, day: str) -> None:
    store = SqliteStore(home.log)
    store.append(f"project-{day}", [ProjectAdded(day, day, f"/{day}", "h")])
    store.close()
    spans = SpanStore(home.traces)
    spans.put([SpanRecord(day.ljust(32), "1" * 16, None, day, "internal", 1, 2)])
    spans.close()
    home.config.write_text(f"# {day}\n")


def days(home: Home) -> set[str]:
    """Of which days the log, the spans and the settings are; fails where they are of different ones."""
    store = SqliteStore(home.ensure().log, create=False)
    of_log = {row.stream.removeprefix("project-") for row in store.read_all()}
    store.close()
    spans = SpanStore(home.traces)
    of_spans = {day for day in ("yesterday", "today") if spans.of_trace(day.ljust(32))}
    spans.close()
    newest = "today" if "today" in of_log else "yesterday"
    assert (of_spans, home.config.read_text()) == (of_log, f"# {newest}\n")
    assert home.search.exists() == (newest == "today"), "an index belongs to its log"
    assert not list(home.root.glob(".lerim-*"))
    return of_log


def killed_at(rename: int, act: Callable[[], object]) -> bool:
    """Whether a process that does it was killed just before its nth rename; False: it had come to its end."""
    child = os.fork()
    if child == 0:
        done, real = 0, Path.replace

        def replace(self: Path, target: Path) -> Path:
            nonlocal done
            if done == rename:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            return real(self, target)

        Path.replace = replace  # type: ignore[assignment,method-assign]
        try:
            act()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def interrupted(home: Home) -> Iterator[Home]:
    """The state after a restore was killed, for every rename it makes: a copy of the folder each, journals and all."""
    source = home.root.parent / "old"
    using = SqliteStore(home.log)
    using.append("project-today", [ProjectRemoved("today")])
    assert Path(f"{home.log}-wal").stat().st_size
    for rename in range(100):
        copy = Home(home.root.parent / f"h{rename}")
        shutil.copytree(home.root, copy.root)
        if not killed_at(rename, lambda copy=copy: restore.restore(copy, source)):  # type: ignore[misc]
            assert rename >= 9, "log with its journals, spans, settings and index were moved"
            assert days(copy) == {"yesterday"}
            using.close()
            return
        yield copy


def check_refused(home: Home) -> None:
    """Nobody opens what stands in the middle, and trying makes no file."""
    before = sorted(path.name for path in home.root.iterdir())
    with pytest.raises(ConfigError, match="lerim restore --finish") as caught:
        home.ensure()
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError):
        restore.restore(home, home.root.parent / "old")
    assert sorted(path.name for path in home.root.iterdir()) == before


@pytest.mark.parametrize("then", ["finish", "roll back", "roll back, killed", "finish, killed", "finish after all"])
def test_a_restore_that_was_killed_anywhere_can_be_finished_and_rolled_back(home: Home, then: str) -> None:
    marked = 0
    for number, copy in enumerate(interrupted(home)):
        if not copy.restoring.exists():
            # Killed before anything moved: the folder it worked in is all that is left.
            shutil.rmtree(next(copy.root.glob(".lerim-*")))
            assert days(copy) == {"yesterday", "today"}
            continue
        marked += 1
        check_refused(copy)
        if then == "roll back, killed":
            killed_at(number % 5, lambda copy=copy: restore.roll_back(copy))  # type: ignore[misc]
        if then in ("finish, killed", "finish after all"):
            act = restore.finish if then == "finish, killed" else restore.roll_back
            killed_at(number % 3, lambda copy=copy, act=act: act(copy))  # type: ignore[misc]
        if then.startswith("finish"):
            if copy.restoring.exists():
                done = restore.finish(copy)
                assert done.manifest.events == 1
                assert SqliteStore(done.kept / "log.sqlite3").position() == 3, "with what stood in the journal"
                assert days(copy) == {"yesterday"}
        elif copy.restoring.exists():
            restore.roll_back(copy)
            assert days(copy) == {"yesterday", "today"}
            assert SqliteStore(copy.log).position() == 3, "what stood in the journal is there again"
            assert list(copy.root.glob("before-restore/*")) == []
        days(copy)
        for again in (restore.finish, restore.roll_back):
            with pytest.raises(BadInput, match="no restore was interrupted"):
                again(copy)
    assert marked >= 8


def test_an_error_in_the_middle_puts_everything_back(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    real, done = Path.replace, 0

    def replace(self: Path, target: Path) -> Path:
        nonlocal done
        done += 1
        if done == 5:
            raise OSError(28, "no space left")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="no space left"):
        restore.restore(home, home.root.parent / "old")
    assert done > 5
    assert days(home) == {"yesterday", "today"}


def test_what_another_made_while_the_state_was_away_is_not_joined_to_the_new_log(home: Home) -> None:
    assert killed_at(5, lambda: restore.restore(home, home.root.parent / "old"))
    assert not home.log.exists()
    empty = SqliteStore(home.log)
    empty.append("project-lost", [ProjectAdded("lost", "lost", "/", "h")])
    assert Path(f"{home.log}-wal").exists()
    kept = restore.finish(home).kept
    assert sorted(path.name for path in kept.iterdir()) == [
        "config.toml",
        "log.sqlite3",
        "search.sqlite3",
        "traces.sqlite3",
    ]
    assert not Path(f"{home.log}-wal").exists()
    assert days(home) == {"yesterday"}
    empty.close()


def test_without_the_new_files_it_can_only_be_rolled_back(home: Home) -> None:
    assert killed_at(3, lambda: restore.restore(home, home.root.parent / "old"))
    shutil.rmtree(next(home.root.glob(".lerim-*")))
    with pytest.raises(BadInput, match="--roll-back"):
        restore.finish(home)
    restore.roll_back(home)
    assert days(home) == {"yesterday", "today"}


def test_who_goes_on_with_a_restore_is_alone_as_well(home: Home) -> None:
    assert killed_at(3, lambda: restore.restore(home, home.root.parent / "old"))
    for act in (restore.finish, restore.roll_back):
        with embedded.hold(home), pytest.raises(ConflictError, match="command"):
            act(home)


def test_commands_say_how_to_go_on_and_make_nothing(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.lerim("project", "add", str(world.project))
    world.lerim("backup", str(tmp_path / "old"))
    journals = [ending for ending in ("-wal", "-shm") if Path(f"{world.home.log}{ending}").exists()]
    # After the marker and all of the old log, before the new one.
    assert killed_at(2 + len(journals), lambda: restore.restore(world.home, tmp_path / "old"))
    for command in ("status", "memory list", "sync", f"restore {tmp_path / 'old'} --yes"):
        done = world.lerim(*command.split(), expect=2)
        assert done.stderr.count("\n") == 1
        assert "lerim restore --finish" in done.stderr
    assert not world.home.log.exists()
    [finding] = [one for one in world.json("doctor", expect=1)[0]["checks"] if one["status"] == "problem"]
    assert (finding["check"], "--roll-back" in finding["next"]) == ("restore", True)
    world.lerim("restore", "--finish", "--roll-back", expect=2)
    assert world.json("restore", "--roll-back") == [{"home": str(world.home.root), "rolled_back": True}]
    assert len(world.json("project", "list")) == 1
    assert "no restore was interrupted" in world.lerim("restore", "--finish", expect=2).stderr


# --- what is put back is what was saved ------------------------------------------------------------
def other_settings(copy: Path) -> None:
    (copy / "config.toml").write_text("# somebody else's\n")


def another_sound_log(copy: Path) -> None:
    """Nothing that SQLite or a count of events could notice."""
    db = apsw.Connection(str(copy / "log.sqlite3"))
    db.execute("UPDATE events SET data = replace(data, 'yesterday', 'otherwise')")
    db.close()


def another_sound_trace(copy: Path) -> None:
    db = apsw.Connection(str(copy / "traces.sqlite3"))
    db.execute("DELETE FROM spans")
    db.close()


@pytest.mark.parametrize("change", [other_settings, another_sound_log, another_sound_trace])
def test_a_file_that_is_sound_and_not_what_was_saved_is_refused(home: Home, change: Callable[[Path], None]) -> None:
    copy = home.root.parent / "old"
    change(copy)
    with pytest.raises(CorruptLog, match="changed or damaged"):
        restore.restore(home, copy)
    assert days(home) == {"yesterday", "today"}
    manifest = msgspec.json.decode((copy / "manifest.json").read_bytes(), type=Manifest)
    files = {name: backup.file_digest(copy / name) for name in manifest.files}
    (copy / "manifest.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, files=files)))
    restore.restore(home, copy)
