"""What every event store must do. Each test runs on all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from lerim_jobs.errors import BadEvent, ConflictError, CorruptLog, PermanentError, StoreUnavailable
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    Event,
    JobFinished,
    MemoryAdded,
    MemoryArchived,
    Quote,
    SessionReleased,
    TraceClosed,
)
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.store import ALL, Edge, Identified, StageCount, StageRow, Store, Tx
from tests.memory_store import MemoryStore


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "log.sqlite3")
    yield made
    made.close()


def closed(spans: int) -> TraceClosed:
    return TraceClosed(spans=spans)


def test_append_numbers_versions_per_stream_and_positions_over_all(store: Store) -> None:
    assert store.append("job-a", [closed(1), closed(2)]) == 2
    assert store.append("job-b", [closed(3)]) == 1
    assert store.append("job-a", [closed(4)]) == 3
    assert [(row.stream, row.version) for row in store.read_all()] == [
        ("job-a", 1),
        ("job-a", 2),
        ("job-b", 1),
        ("job-a", 3),
    ]
    assert [row.as_(TraceClosed).spans for row in store.read("job-a", after=1)] == [2, 4]
    assert store.position() == store.read_all()[-1].position


def test_append_at_the_wrong_version_is_refused_and_writes_nothing(store: Store) -> None:
    store.append("job-a", [closed(1)])
    with pytest.raises(ConflictError):
        store.append("job-a", [closed(2)], expected=0)
    assert store.append("job-a", [closed(2)], expected=1) == 2


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (MemoryAdded("bad", "p", "insight", "t", "b", 0.8, tags=None), "tags"),  # type: ignore[arg-type]
        (MemoryAdded("bad", "p", "rumour", "t", "b", 0.8), "kind"),  # type: ignore[arg-type]
        (MemoryAdded("bad", "p", "insight", "t", "b", float("nan")), "confidence"),
        (MemoryAdded("bad", "p", "insight", "t", "b", 0.8, quotes=[Quote("q", "s", "x", "c", "3", "u")]), "turn"),  # type: ignore[arg-type]
        (MemoryAdded("bad", "p", "insight", "t", "cut in two: \ud83d", 0.8), "body"),
        (MemoryAdded("bad", "p", "insight", "t", object(), 0.8), "body"),  # type: ignore[arg-type]
    ],
)
def test_an_event_that_could_not_be_read_again_is_refused_by_name_and_nothing_is_written(
    store: Store, event: MemoryAdded, field: str
) -> None:
    with store.write() as tx:
        tx.append("memory-a", [MemoryArchived("a", "before")])
        with pytest.raises(BadEvent, match=f"MemoryAdded.*{field}") as caught:
            tx.append("memory-bad", [MemoryArchived("bad", "in front of it"), event])
    assert isinstance(caught.value, PermanentError), "no second attempt could end otherwise"
    assert [row.stream for row in store.read_all()] == ["memory-a"]


def test_an_event_that_is_in_no_list_is_refused(store: Store) -> None:
    class MemoryPainted(Event, frozen=True):
        colour: str

    with pytest.raises(BadEvent, match="MemoryPainted"):
        store.append("memory-a", [MemoryPainted("red")])


def test_an_event_id_is_taken_once_even_by_another_stream(store: Store) -> None:
    store.append("job-a", [Identified("x", closed(1))])
    with pytest.raises(ConflictError):
        store.append("job-b", [closed(2), Identified("x", closed(3))])
    assert store.read("job-b") == []


def test_a_failing_transaction_leaves_no_trace(store: Store) -> None:
    row = StageRow("a", "index", "ask", "ready")

    def write_and_fail() -> None:
        with store.write() as tx:
            tx.append("job-a", [closed(1)])
            tx.add_stages([row], [])
            tx.put_doc("view", "key", b"1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert store.position() == 0
    assert store.stages("a") == []
    assert store.docs("view") == []


def test_events_keep_data_meta_and_time(store: Store) -> None:
    store.append("memory-m", [MemoryArchived(memory_id="m", reason="naïve ☃")], meta={"job_id": "j"})
    (row,) = store.read("memory-m")
    assert row.event == MemoryArchived(memory_id="m", reason="naïve ☃")
    assert row.meta == {"job_id": "j"}
    assert abs(row.at_ms - store.now_ms()) < 60_000


def test_read_all_pages_and_filters_by_type(store: Store) -> None:
    store.append("job-a", [closed(n) for n in range(5)])
    store.append("session-s", [SessionReleased(job_id="a", turn_from=0)])
    store.append("job-a", [JobFinished(status="succeeded")])
    assert [row.type for row in store.read_all(types=["JobFinished", "SessionReleased"])] == [
        "SessionReleased",
        "JobFinished",
    ]
    page = store.read_all(limit=3)
    assert len(page) == 3
    assert len(store.read_all(after=page[-1].position)) == 4


def test_a_tail_sees_what_another_thread_appends(store: Store) -> None:
    store.append("job-a", [closed(1)])
    tail = store.tail(0, poll_s=0.01)
    assert [row.version for row in next(tail)] == [1]
    writer = threading.Thread(target=lambda: store.append("job-a", [closed(2)]))
    writer.start()
    seen = next(batch for _, batch in zip(range(500), tail, strict=False) if batch)
    writer.join()
    assert [row.version for row in seen] == [2]


def test_blobs_are_found_by_their_hash_and_missing_ones_are_named(store: Store) -> None:
    blob_hash = store.put_blob(b"\x00text")
    assert store.put_blob(b"\x00text") == blob_hash
    assert store.blob(blob_hash) == b"\x00text"
    with pytest.raises(CorruptLog, match="f00"):
        store.blob("f00")


def test_stage_rows_are_added_changed_listed_and_dropped(store: Store) -> None:
    rows = [
        StageRow("a", "index", "host.h", "running", lane="l", attempt=2, owner="w", due_ms=5, input=b'{"x":1}'),
        StageRow("a", "finish", "ask", "waiting", open_needs=2),
        StageRow("b", "index", "host.h", "ready", lane="l", due_ms=1),
    ]
    with store.write() as tx:
        tx.add_stages(rows[:2], [])
        tx.add_stages(rows[2:], [])
        assert tx.stage("a", "index") == rows[0]
        assert tx.stage("a", "nothing") is None
        assert tx.lane("l") == [rows[0], rows[2]]
        tx.save_stage(msgspec.structs.replace(rows[0], state="done", outcome=7, owner=None, input=b"{}"))
    done = msgspec.structs.replace(rows[0], state="done", outcome=7, owner=None)
    assert store.stages("a") == [done, rows[1]]
    assert (store.stages("a", "finish"), store.stages("a", "fin"), store.stage("a", "index")) == ([rows[1]], [], done)
    assert (store.has_stages("a"), store.has_stages("c"), store.open_jobs()) == (True, False, ["a", "b"])
    with store.write() as tx:
        tx.drop_stages("a")
        assert (tx.has_stages("a"), tx.has_stages("b")) == (False, True)
    assert (store.stages("a"), store.stages("b")) == ([], [rows[2]])


def test_a_stage_is_added_once(store: Store) -> None:
    with store.write() as tx:
        tx.add_stages([StageRow("a", "index", "q", "ready")], [])
    with pytest.raises(ConflictError), store.write() as tx:
        tx.add_stages([StageRow("a", "finish", "q", "ready"), StageRow("a", "index", "q", "ready")], [])
    assert [row.stage for row in store.stages("a")] == ["index"]


def test_families_are_told_apart_by_their_whole_name(store: Store) -> None:
    names = ["extract", "extract:a:1", "extract:a:0", "extracts:a", "summarize:a"]
    with store.write() as tx:
        tx.add_stages([StageRow("a", name, "q", "ready") for name in names], [])
        assert [row.stage for row in tx.stages("a", "extract")] == names[:3]
    assert [row.stage for row in store.stages("a", "summarize")] == ["summarize:a"]


def test_edges_are_found_from_both_ends_and_what_waits_counts_down(store: Store) -> None:
    names = ["index", "extract:a", "integrate:a", "finish"]
    edges = [Edge("extract:a", "integrate:a", True), Edge("index", "integrate:a", False), Edge(ALL, "finish", False)]
    with store.write() as tx:
        for job in ("a", "b"):
            tx.add_stages([StageRow(job, name, "q", "waiting", open_needs=3) for name in names], edges)
        assert tx.after("a", "extract:a") == sorted([edges[0], edges[2]])
        assert tx.after("a", "finish") == []  # not after itself
        assert tx.after("a", ALL) == [edges[2]]
        assert sorted(tx.before("a", "integrate:a")) == sorted(edges[:2])
        counted = tx.count_open("a", "integrate:a", -1)
        assert counted is not None
        assert (counted.open_needs, tx.count_open("a", "nothing", -1)) == (2, None)
    assert sorted(store.before("a", "integrate:a")) == sorted(edges[:2])
    left = [store.stage(job, "integrate:a") for job in ("a", "b")]
    assert [row and row.open_needs for row in left] == [2, 3]
    with store.write() as tx:
        tx.drop_stages("a")
    assert (store.before("a", "integrate:a"), len(store.before("b", "integrate:a"))) == ([], 2)


def test_ready_stages_come_page_by_page_by_when_they_were_sent(store: Store) -> None:
    now = store.now_ms()
    rows = [StageRow("a", f"extract:{n}", "q", "ready", due_ms=now - 1, sent_ms=n % 3) for n in range(7)]
    others = [
        StageRow("a", "late", "q", "ready", due_ms=now + 60_000, sent_ms=0),
        StageRow("a", "just sent", "q", "ready", due_ms=now - 1, sent_ms=now),
        StageRow("a", "elsewhere", "other", "ready", due_ms=now - 1),
        StageRow("a", "runs", "q", "running", due_ms=now - 1, lease_until_ms=5),
        StageRow("a", "aside", "q", "parked"),
    ]
    with store.write() as tx:
        tx.add_stages([*rows, *others], [])
    seen: list[str] = []
    after = (-1, "", "")
    while page := store.ready_stages("q", sent_before_ms=now, limit=3, after=after):
        seen += [row.stage for row in page]
        after = (page[-1].sent_ms, page[-1].job_id, page[-1].stage)
    assert seen == [f"extract:{n}" for n in (0, 3, 6, 1, 4, 2, 5)]
    assert [row.stage for row in store.running_stages()] == ["runs"]
    assert [row.stage for row in store.far_stages(now + 50_000)] == ["late"]


def test_stages_are_counted_by_queue_state_and_whether_they_are_due(store: Store) -> None:
    now = store.now_ms()
    with store.write() as tx:
        tx.add_stages([StageRow("a", f"x:{n}", "q", "ready", due_ms=now - 1) for n in range(3)], [])
        tx.add_stages([StageRow("a", "y", "q", "ready", due_ms=now + 60_000), StageRow("a", "z", "r", "done")], [])
        tx.add_stages([StageRow("b", "x", "q", "running", due_ms=now - 1)], [])
    everything = {
        StageCount("q", "ready", True, 3),
        StageCount("q", "ready", False, 1),
        StageCount("r", "done", True, 1),
    }
    assert set(store.count_stages("a")) == everything
    assert set(store.count_stages()) == everything | {StageCount("q", "running", True, 1)}
    assert set(store.count_stages(state="ready")) == {one for one in everything if one.state == "ready"}


def test_documents_are_replaced_listed_in_order_and_deleted(store: Store) -> None:
    with store.write() as tx:
        for key in ("b", "a", "c"):
            tx.put_doc("view", key, key.encode())
        tx.put_doc("other", "a", b"x")
        tx.put_doc("view", "b", b"B")
        tx.put_doc("view", "c", None)
        assert tx.doc("view", "b") == b"B"
    assert store.docs("view") == [("a", b"a"), ("b", b"B")]
    with store.write() as tx:
        tx.clear_docs("view")
    assert (store.docs("view"), store.docs("other")) == ([], [("a", b"x")])


def test_documents_whose_key_begins_alike_are_read_alone(store: Store) -> None:
    keys = ["p/", "p/a", "p/\U0010ffff", "p/ü", "p0", "p", "P/a", "p%a", "o\U0010ffff"]
    with store.write() as tx:
        for key in keys:
            tx.put_doc("view", key, key.encode())
        tx.put_doc("other", "p/a", b"x")
    assert store.docs("view", "p/") == [(key, key.encode()) for key in ("p/", "p/a", "p/ü", "p/\U0010ffff")]
    assert store.docs("view", "p%") == [("p%a", b"p%a")]
    assert [key for key, _ in store.docs("view")] == sorted(keys)


def test_many_threads_append_to_one_stream_without_gap_or_loss(store: Store) -> None:
    def work() -> None:
        for _ in range(20):
            store.append("job-a", [closed(1)])
        store.close()

    run_threads(work, 8)
    assert [row.version for row in store.read("job-a")] == list(range(1, 161))


def test_one_of_many_threads_wins_an_expected_version(store: Store) -> None:
    won: list[int] = []

    def work() -> None:
        try:
            store.append("job-a", [closed(1)], expected=0)
            won.append(1)
        except ConflictError:
            pass

    run_threads(work, 8)
    assert won == [1]


def test_sqlite_refuses_a_newer_schema(tmp_path: Path) -> None:
    import apsw

    path = tmp_path / "log.sqlite3"
    SqliteStore(path).close()
    apsw.Connection(str(path)).pragma("user_version", 99)
    with pytest.raises(StoreUnavailable, match="newer"):
        SqliteStore(path)


def test_sqlite_names_a_damaged_file_and_leaves_it_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    path.write_bytes(b"this is not a database, not at all" * 100)
    before = path.read_bytes()
    with pytest.raises(CorruptLog, match="damaged"):
        SqliteStore(path)
    assert path.read_bytes() == before


def run_threads(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_views_and_blobs_can_be_listed(store: Store) -> None:
    with store.write() as tx:
        tx.put_doc("jobs", "a", b"1")
        tx.put_doc("jobs", "b", b"2")
        tx.put_doc("_spent", "c", b"3")
    assert store.doc_views() == ["_spent", "jobs"]
    hashes = sorted(store.put_blob(data) for data in (b"one", b"two", b"three"))
    assert store.blob_hashes() == hashes
    assert store.blob_hashes(hashes[0], limit=1) == [hashes[1]]


class Upper:
    """Makes every `secret` loud; documents of the view `gone` go."""

    def __init__(self, fail: bool = False) -> None:
        self.fail, self.seen = fail, list[str]()

    def begin(self, tx: Tx) -> None:
        self.seen.append("begin")

    def blob(self, data: bytes) -> bytes:
        self.seen.append("blob")
        return data.replace(b"secret", b"SECRET")

    def event(self, row: Recorded, moved: Mapping[str, str]) -> bytes:
        self.seen.append(f"event {row.position}")
        data = row.data.replace(b"secret", b"SECRET")
        for old, new in moved.items():
            data = data.replace(old.encode(), new.encode())
        return data

    def document(self, view: str, key: str, value: bytes, moved: Mapping[str, str]) -> bytes | None:
        self.seen.append("document")
        return None if view == "gone" else moved.get(value.decode(), value.decode()).encode()

    def end(self, tx: Tx) -> None:
        self.seen.append("end")
        tx.append("job-a", [closed(9)])
        if self.fail:
            raise ZeroDivisionError


def filled(store: Store) -> tuple[str, str]:
    secret, other = store.put_blob(b"a secret " * 3000), store.put_blob(b"other")
    with store.write() as tx:
        tx.append("memory-m", [MemoryArchived("m", "secret ☃"), MemoryArchived("m", secret)], meta={"job_id": "secret"})
        tx.append("memory-n", [Identified("x", MemoryArchived("n", "nothing"))])
        tx.put_doc("kept", "a", secret.encode())
        tx.put_doc("gone", "a", b"secret")
    return secret, other


def test_rewriting_changes_what_was_said_and_nothing_else(store: Store) -> None:
    secret, other = filled(store)
    before = store.read_all()
    rewriting = Upper()
    store.rewrite(rewriting)
    assert rewriting.seen[0] == "begin"
    assert rewriting.seen[1:3] == ["blob", "blob"]
    assert rewriting.seen[3:] == ["event 1", "event 2", "event 3", "document", "document", "end"]
    after = store.read_all()
    loud = store.put_blob(b"a SECRET " * 3000)
    assert [row.as_(MemoryArchived).reason for row in after[:3]] == ["SECRET ☃", loud, "nothing"]
    blank = [msgspec.structs.replace(row, data=b"") for row in after]
    assert blank[:3] == [msgspec.structs.replace(row, data=b"") for row in before]
    assert after[3].as_(TraceClosed).spans == 9
    assert (store.blob(other), store.docs("kept"), store.docs("gone")) == (b"other", [("a", loud.encode())], [])
    with pytest.raises(CorruptLog):
        store.blob(secret)


def test_a_rewriting_that_fails_changes_nothing(store: Store) -> None:
    secret, _ = filled(store)
    before = (store.read_all(), store.blob(secret), store.docs("gone"))
    with pytest.raises(ZeroDivisionError):
        store.rewrite(Upper(fail=True))
    assert (store.read_all(), store.blob(secret), store.docs("gone")) == before


def test_sqlite_keeps_no_byte_of_what_was_rewritten_beside_other_open_connections(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    store = SqliteStore(path)
    filled(store)
    store.append("memory-n", [MemoryArchived("n", "x" * 100_000)])
    reading = SqliteStore(path)
    assert reading.read("memory-m")
    store.rewrite(Upper())
    for file in tmp_path.iterdir():
        assert b"a secret" not in file.read_bytes(), file
        assert b"secret \xe2" not in file.read_bytes(), file
    assert reading.read("memory-m")[0].as_(MemoryArchived).reason == "SECRET ☃"
    reading.append("memory-m", [MemoryArchived("m", "goes on")])
    reading.close()
    store.close()
