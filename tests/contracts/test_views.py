"""Read models: caught up exactly once per event, rebuilt to the same bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from lerim_jobs.errors import CorruptLog
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    MemoryAdded,
    ProjectAdded,
    ProjectPublished,
    ProjectRemoved,
    PublishedFile,
    SessionExtracted,
    SessionIndexed,
    SessionScheduled,
)
from lerim_jobs.log.projection import (
    CHECKPOINTS,
    View,
    catch_up,
    find,
    fold_all,
    fold_part,
    note_rewritten,
    parts_of,
    rebuild,
    views_in,
)
from lerim_jobs.log.scan import scan, unreadable
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.store import Store, Tx
from lerim_jobs.memory.files.states import file_states
from lerim_jobs.projects import PROJECTS, Project, active_projects
from lerim_jobs.sessions.session import SESSIONS
from tests.memory_store import MemoryStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "log.sqlite3")
    yield made
    made.close()


def indexed(turn_from: int, turn_to: int, **fields: Any) -> SessionIndexed:
    given = {
        "agent": "codex",
        "session_id": "s",
        "path": "/s.jsonl",
        "host": "h",
        "size_bytes": turn_to,
        "mtime_ns": 1,
        "inode": 1,
        "offset": 1,
        "tail_hash": "",
        "turn_from": turn_from,
        "turn_to": turn_to,
        "blob": f"blob-{turn_to}",
        "human_prompts": 1,
    }
    return SessionIndexed(**{**given, **fields})


def test_a_session_grows_is_taken_and_extracted(store: Store) -> None:
    store.append("session-codex-1", [indexed(0, 4)])
    assert fold_all(store, SESSIONS)["session-codex-1"].waiting
    store.append("session-codex-1", [SessionScheduled("j", "p", 0, 4), SessionExtracted("j", 4)])
    assert not fold_all(store, SESSIONS)["session-codex-1"].waiting
    store.append("session-codex-1", [indexed(4, 6)])
    session = find(store, SESSIONS, "session-codex-1")
    assert session is not None
    assert (session.waiting, session.extracted_to, session.turns, len(session.segments)) == (True, 4, 6, 2)


def test_rebuilding_gives_identical_documents(store: Store) -> None:
    for n in range(5):
        store.append(f"project-{n}", [ProjectAdded(str(n), f"name {n}", f"/p/{n}", "h")])
    store.append("project-2", [ProjectRemoved("2")])
    catch_up(store, PROJECTS)
    before = store.docs("projects")
    rebuild(store, PROJECTS)
    assert store.docs("projects") == before
    assert sorted(active_projects(store)) == ["0", "1", "3", "4"]


def test_a_raised_version_rebuilds_by_itself(store: Store) -> None:
    store.append("project-1", [ProjectAdded("1", "a", "/a", "h")])
    catch_up(store, PROJECTS)
    with store.write() as tx:
        tx.put_doc("projects", "1", b'{"project_id":"1","name":"stale","path":"/","host":"h"}')
    renewed = msgspec.structs.replace(PROJECTS, version=PROJECTS.version + 1)
    assert fold_all(store, renewed)["1"].name == "a"


def by_host(version: int = 1) -> View[Project]:
    """Projects by the host they lie on; a removed one leaves no document."""
    return msgspec.structs.replace(
        PROJECTS,
        name="by-host",
        version=version,
        apply=lambda project, row: None if row.type == "ProjectRemoved" else PROJECTS.apply(project, row),
        part=lambda project: project.host,
    )


def test_a_part_is_read_alone_and_follows_its_documents(store: Store) -> None:
    for key, host in (("1", "a"), ("2", "b"), ("3", "b"), ("4", "b2")):
        store.append(f"project-{key}", [ProjectAdded(key, f"name {key}", "/p", host)])
    view = by_host()
    assert {host: list(fold_part(store, view, host)) for host in ("a", "b", "b2", "c")} == {
        **{"a": ["1"], "b": ["2", "3"]},
        **{"b2": ["4"], "c": []},
    }
    store.append("project-2", [ProjectRemoved("2")])
    store.append("project-3", [ProjectAdded("3", "moved", "/q", "a")])
    assert {key: one.name for key, one in fold_part(store, view, "a").items()} == {"1": "name 1", "3": "moved"}
    assert fold_part(store, view, "b") == {}
    assert fold_all(store, view) == {**fold_part(store, view, "a"), **fold_part(store, view, "b2")}
    before = store.docs(parts_of(view.name))
    with store.write() as tx:
        tx.put_doc(parts_of(view.name), "a/9", before[0][1])
    rebuild(store, view)
    assert store.docs(parts_of(view.name)) == before
    with store.write() as tx:
        tx.put_doc(parts_of(view.name), "a/9", before[0][1])
    assert list(fold_part(store, by_host(version=2), "a")) == ["1", "3"]


def test_parts_are_among_what_can_be_made_again(store: Store) -> None:
    store.append("project-1", [ProjectAdded("1", "a", "/a", "h")])
    catch_up(store, by_host())
    with store.write() as tx:
        tx.put_doc("paused", "all", b"1")
    assert set(store.doc_views()) - views_in(store) == {CHECKPOINTS, "paused"}


def test_a_raised_version_folds_from_nothing_and_not_onto_what_an_older_one_left(store: Store) -> None:
    store.append("session-codex-1", [indexed(0, 1), indexed(1, 2)])
    catch_up(store, SESSIONS)
    renewed = msgspec.structs.replace(SESSIONS, version=SESSIONS.version + 1)
    (session,) = fold_all(store, renewed).values()
    assert (session.human_prompts, len(session.segments)) == (2, 2)


def test_several_readers_catching_up_at_once_apply_each_event_once(store: Store) -> None:
    for n in range(50):
        store.append("session-codex-1", [indexed(n, n + 1)])

    def read() -> None:
        catch_up(store, SESSIONS)
        if isinstance(store, SqliteStore):
            store.close()

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session = fold_all(store, SESSIONS)["session-codex-1"]
    assert (session.human_prompts, len(session.segments)) == (50, 50)


def spoil(store: Store, position: int) -> None:
    """Make an event unreadable, as an earlier version that did not look could write it."""

    class Spoiling(Renaming):
        def event(self, row: Recorded, moved: Mapping[str, str]) -> bytes:
            return b'{"project_id":"1","name":null}' if row.position == position else row.data

        def document(self, view: str, key: str, value: bytes, moved: Mapping[str, str]) -> bytes | None:
            return value

    store.rewrite(Spoiling())


def test_an_event_that_cannot_be_read_is_named_once_and_the_others_are_applied(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    for n in (1, 2, 3):
        store.append(f"project-{n}", [ProjectAdded(str(n), f"name {n}", f"/p/{n}", "h")])
    name = f"project-{store.now_ms()}-{type(store).__name__}"
    store.append(name, [ProjectAdded("4", "spoiled", "/p/4", "h"), ProjectAdded("4", "mended", "/p/4", "h")])
    spoil(store, 4)
    assert sorted(active_projects(store)) == ["1", "2", "3", "4"]
    assert active_projects(store)["4"].name == "mended"
    rebuild(store, PROJECTS)
    assert [row.position for row in scan(store)] == [1, 2, 3, 5]
    assert [row.position for row, _ in unreadable(store)] == [4]
    said = [record.getMessage() for record in caplog.records if name in record.getMessage()]
    assert len(said) == 1
    assert "event 4 (ProjectAdded" in said[0]
    assert "lerim doctor" in said[0]


def test_an_event_about_several_documents_that_cannot_be_read_changes_none(store: Store) -> None:
    store.append("memory-m", [MemoryAdded("m", "1", "insight", "t", "b", 0.8)])
    store.append("project-1", [ProjectPublished("1", [PublishedFile("m", "t.md", "d", 1)])])
    spoil(store, 2)
    assert [state.path for state in file_states(store, "1").values()] == [""]


def test_a_damaged_document_says_what_to_do_and_a_rebuild_mends_it(store: Store) -> None:
    store.append("project-1", [ProjectAdded("1", "a", "/a", "h")])
    catch_up(store, PROJECTS)
    with store.write() as tx:
        tx.put_doc("projects", "1", b'{"project_id":1')
    for look in (lambda: fold_all(store, PROJECTS), lambda: find(store, PROJECTS, "1")):
        with pytest.raises(CorruptLog, match="lerim rebuild"):
            look()
    store.append("project-1", [ProjectRemoved("1")])
    with pytest.raises(CorruptLog, match="lerim rebuild"):
        catch_up(store, PROJECTS)
    assert rebuild(store, PROJECTS), "it was not what the log says"
    assert fold_all(store, PROJECTS)["1"].removed
    assert not rebuild(store, PROJECTS)


def added(store: Store, name: str) -> Callable[[], None]:
    """What somebody else appends meanwhile."""

    def append() -> None:
        store.append(f"project-{name}", [ProjectAdded(name, name, f"/{name}", "h")])

    return append


class SlowReader:
    """A store whose reader is overtaken between reading events and writing documents: before, or after `loading` some."""

    def __init__(self, store: Store, meanwhile: Callable[[], None], *, loading: str = "") -> None:
        self._store, self._meanwhile, self._loading = store, [meanwhile], loading

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def read_all(self, *given: Any) -> list[Recorded]:
        rows = self._store.read_all(*given)
        while self._meanwhile and not self._loading:
            self._meanwhile.pop()()
        return rows

    def doc(self, view: str, key: str) -> bytes | None:
        while self._meanwhile and view == self._loading:
            self._meanwhile.pop()()
        return self._store.doc(view, key)


class Renaming:
    """Takes a word out of every event, as a redaction does."""

    def begin(self, tx: Tx) -> None: ...

    def blob(self, data: bytes) -> bytes:
        return data

    def event(self, row: Recorded, moved: Mapping[str, str]) -> bytes:
        return row.data.replace(b"hidden", b"------")

    def document(self, view: str, key: str, value: bytes, moved: Mapping[str, str]) -> bytes | None:
        return None

    def end(self, tx: Tx) -> None:
        note_rewritten(tx)


def test_what_was_read_before_a_redaction_is_not_written_behind_it(store: Store) -> None:
    store.append("project-1", [ProjectAdded("1", "hidden", "/p", "h")])
    slow = SlowReader(store, lambda: store.rewrite(Renaming()))
    catch_up(cast(Store, slow), PROJECTS)
    assert [project.name for project in fold_all(store, PROJECTS).values()] == ["------"]


def test_a_reader_that_was_overtaken_while_it_folded_applies_nothing_twice(store: Store) -> None:
    store.append("session-codex-1", [indexed(0, 1)])
    catch_up(store, SESSIONS)
    store.append("session-codex-1", [indexed(1, 2), indexed(2, 3)])
    slow = SlowReader(store, lambda: catch_up(store, SESSIONS), loading=SESSIONS.name)
    catch_up(cast(Store, slow), SESSIONS)
    (session,) = fold_all(store, SESSIONS).values()
    assert (session.human_prompts, len(session.segments), session.version) == (3, 3, 3)


def test_nobody_waits_for_a_fold(store: Store) -> None:
    """Events are decoded and folded outside the write transaction: it only writes documents."""
    writing: list[bool] = []

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        @contextmanager
        def write(self, *, durable: bool = True) -> Iterator[Tx]:
            with store.write(durable=durable) as tx:
                writing.append(True)
                yield tx
                writing.pop()

    def apply(session: Any, row: Recorded) -> Any:
        assert not writing
        return SESSIONS.apply(session, row)

    store.append("session-codex-1", [indexed(0, 1), indexed(1, 2)])
    catch_up(cast(Store, Watched()), msgspec.structs.replace(SESSIONS, apply=apply))
    assert fold_all(store, SESSIONS)["session-codex-1"].turns == 2


def test_a_rebuild_names_no_difference_for_what_was_appended_meanwhile(store: Store) -> None:
    store.append("project-1", [ProjectAdded("1", "a", "/a", "h")])
    slow = SlowReader(store, added(store, "2"))
    catch_up(store, PROJECTS)
    assert not rebuild(cast(Store, slow), PROJECTS)
    assert sorted(active_projects(store)) == ["1", "2"]
    with store.write() as tx:
        tx.put_doc("projects", "2", None)
    slow = SlowReader(store, added(store, "3"))
    assert rebuild(cast(Store, slow), PROJECTS)
    assert sorted(active_projects(store)) == ["1", "2", "3"]
