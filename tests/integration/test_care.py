"""Looking after a state folder: copies, restoring, upgrading, rebuilding, retention. Real files, real processes' locks."""

from __future__ import annotations

import io
import shutil
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from lerim_jobs.care import backup, rebuild, restore, retain, shrink
from lerim_jobs.care.derived import VIEWS
from lerim_jobs.config import Retention
from lerim_jobs.errors import BadInput, ConflictError, CorruptLog
from lerim_jobs.jobs import job
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log import migrations
from lerim_jobs.log.events import (
    JobFinished,
    JobRequested,
    MemoryAdded,
    ModelCalled,
    ProjectAdded,
    StageCompleted,
    StageStarted,
)
from lerim_jobs.log.migrations import SCHEMA_VERSION, Migration
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine import embedded, processes
from lerim_jobs.paths import Home
from lerim_jobs.sqlite import copy_database, damage
from lerim_jobs.tracing.local.store import SpanStore
from lerim_jobs.tracing.skeleton.record import SpanRecord

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
DAY_MS = 86_400_000


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "h").ensure()


@pytest.fixture
def store(home: Home) -> Iterator[SqliteStore]:
    made = SqliteStore(home.log)
    made.append("project-p", [ProjectAdded("p", "shop", "/srv/shop", "h")])
    made.append("memory-m", [MemoryAdded("m", "p", "decision", "Tabs", "We use tabs.", 0.9)])
    yield made
    made.close()


def requested() -> JobRequested:
    return JobRequested("sync", {}, "all", "cli", "h", "t" * 32, "s" * 16, 1)


def called(blob: str) -> ModelCalled:
    return ModelCalled("s", 1, "lead", "h", 0, blob, "m", "m", "p", 1, 1, 1)


# --- copies ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["copy", "copy.tar.gz"])
def test_a_backup_made_while_others_write_is_whole_and_comes_back(home: Home, store: SqliteStore, name: str) -> None:
    home.config.write_text("[tracing]\nenabled = false\n", "utf-8")
    target = home.root.parent / "out" / name
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            store.append(
                f"project-{n}", [ProjectAdded(str(n), "n", f"/{n}", "h"), ProjectAdded(str(n), "m", f"/{n}", "h")]
            )
            n += 1
        store.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        manifest = backup.back_up(home, target)
    finally:
        stop.set()
        writer.join()
    assert manifest.events >= 2
    assert manifest.events % 2 == 0, "a transaction was torn"
    assert target.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in target.parent.iterdir()) == [name]
    store.append("project-late", [ProjectAdded("late", "late", "/late", "h")])
    store.close()
    home.config.write_text("changed", "utf-8")

    done = restore.restore(home, target)

    again = SqliteStore(home.log)
    assert again.position() == manifest.events
    assert again.read("project-late") == []
    assert home.config.read_text("utf-8").startswith("[tracing]")
    kept = SqliteStore(done.kept / "log.sqlite3")
    assert kept.read("project-late") != []
    assert (done.kept / "config.toml").read_text("utf-8") == "changed"
    assert home.log.stat().st_mode & 0o777 == 0o600
    assert not list(home.root.glob(".lerim-*"))
    again.close()
    kept.close()


def test_nothing_is_restored_while_somebody_works(home: Home, store: SqliteStore, tmp_path: Path) -> None:
    backup.back_up(home, tmp_path / "copy")
    running = processes.register_worker(home, queues=["ask"], tracing=False)
    with pytest.raises(ConflictError, match="lerim down"):
        restore.restore(home, tmp_path / "copy")
    running.close()
    with embedded.hold(home), pytest.raises(ConflictError, match="command"):
        restore.restore(home, tmp_path / "copy")
    assert restore.restore(home, tmp_path / "copy").manifest.events == 2


def test_a_copy_that_is_not_sound_changes_nothing(home: Home, store: SqliteStore, tmp_path: Path) -> None:
    good = tmp_path / "good"
    manifest = backup.back_up(home, good)
    before = home.log.read_bytes()

    def spoiled(name: str) -> Path:
        shutil.copytree(good, tmp_path / name)
        return tmp_path / name

    flipped = spoiled("flipped")
    data = bytearray((flipped / "log.sqlite3").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (flipped / "log.sqlite3").write_bytes(data)
    short = spoiled("short")
    (short / "manifest.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, events=9)))
    newer = spoiled("newer")
    (newer / "manifest.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, schema=99)))
    missing = spoiled("missing")
    (missing / "log.sqlite3").unlink()
    odd = spoiled("odd")
    names = {"../../evil": "0" * 64, **manifest.files}
    (odd / "manifest.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(manifest, files=names)))
    text = tmp_path / "text.tar.gz"
    text.write_text("no archive", "utf-8")
    for bad, error in [
        *((flipped, CorruptLog), (short, CorruptLog), (newer, BadInput), (missing, CorruptLog), (odd, BadInput)),
        *((text, BadInput), (tmp_path / "h", BadInput)),
    ]:
        with pytest.raises(error):
            restore.restore(home, bad)
    assert home.log.read_bytes() == before
    assert not (home.root / "before-restore").exists()
    assert not list(home.root.glob(".lerim-*"))
    with pytest.raises(BadInput, match="exists"):
        backup.back_up(home, good)


def test_an_archive_cannot_write_outside_its_place(home: Home, store: SqliteStore, tmp_path: Path) -> None:
    backup.back_up(home, tmp_path / "good")
    evil = tmp_path / "evil.tar.gz"
    with tarfile.open(evil, "w:gz") as archive:
        for name in ("../outside", "/tmp/lerim-outside", "config.toml"):
            member = tarfile.TarInfo(name)
            member.size = 4
            if name == "config.toml":
                member.type, member.linkname, member.size = tarfile.SYMTYPE, "/etc/passwd", 0
            archive.addfile(member, io.BytesIO(b"evil"))
        for path in (tmp_path / "good").iterdir():
            archive.add(path, arcname=path.name)
    restore.restore(home, evil)
    assert not (home.root / "outside").exists()
    assert not Path("/tmp/lerim-outside").exists()
    assert not home.config.exists()


# --- upgrading -------------------------------------------------------------------------------------
def old_log(path: Path) -> None:
    """A log as schema 1 wrote it, with every golden event in it."""
    db = apsw.Connection(str(path))
    db.pragma("journal_mode", "wal")
    db.execute((GOLDEN / "log_schema_1.sql").read_text("utf-8"))
    for n, line in enumerate((GOLDEN / "events.jsonl").read_bytes().splitlines(), 1):
        row = msgspec.json.decode(line)
        about = (f"e{n}", "golden", n, row["type"], row["schema"], msgspec.json.encode(row["data"]).decode())
        db.execute(
            "INSERT INTO events(id, stream, version, type, schema, data, meta, at_ms) VALUES(?,?,?,?,?,?,'{}',1)", about
        )
    db.pragma("user_version", 1)
    db.close()


def test_an_older_log_is_copied_then_brought_up_to_date_by_one_of_many(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    old_log(path)
    count = len((GOLDEN / "events.jsonl").read_bytes().splitlines())
    seen: list[int] = []

    def use() -> None:
        store = SqliteStore(path)
        seen.append(len([row for row in store.read("golden") if row.event]))
        store.close()

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [count] * 4
    db = apsw.Connection(str(path))
    assert (db.pragma("user_version"), db.pragma("auto_vacuum")) == (SCHEMA_VERSION, 2)
    db.close()
    kept = tmp_path / "log.sqlite3.schema-1.backup"
    assert damage(kept, thorough=True) is None
    copy = apsw.Connection(str(kept))
    assert copy.pragma("user_version") == 1
    assert next(iter(copy.execute("SELECT COUNT(*) FROM events")))[0] == count
    copy.close()
    assert kept.stat().st_mode & 0o777 == 0o600


def test_an_upgrade_that_died_half_way_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite3"
    old_log(path)
    db = apsw.Connection(str(path))

    def die(db: apsw.Connection) -> None:
        db.pragma("auto_vacuum", 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrations.bring_up_to_date(db, path, [Migration(2, "dies", die)])
    db.close()
    store = SqliteStore(path)
    assert store.position() > 0
    store.close()
    assert damage(path, thorough=True) is None


@pytest.mark.parametrize("finished", [1, 2])
def test_an_upgrade_that_is_done_again_keeps_the_copy_of_what_was_there_before_it_began(
    tmp_path: Path, finished: int
) -> None:
    """Whether it died in its first step or after it: `finished` is the schema that it reached."""
    path = tmp_path / "log.sqlite3"
    old_log(path)
    whole = count_events(path)

    def spoil(db: apsw.Connection) -> None:
        db.execute("DELETE FROM events WHERE position > 1")

    def die(db: apsw.Connection) -> None:
        spoil(db)
        raise KeyboardInterrupt

    def upgrade(*steps: Callable[[apsw.Connection], None]) -> None:
        db = apsw.Connection(str(path))
        try:
            migrations.bring_up_to_date(
                db, path, [Migration(to, "one of them", run, whole=False) for to, run in enumerate(steps, 2)]
            )
        finally:
            db.close()

    broken = [spoil] * (finished - 1) + [die]
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            upgrade(*broken)
    upgrade(*[spoil] * finished)
    kept = tmp_path / "log.sqlite3.schema-1.backup"
    assert [one.name for one in tmp_path.glob("*.backup")] == [kept.name]
    assert (count_events(kept), count_events(path)) == (whole, 1)
    # What is upgraded later is copied anew: this was another upgrade.
    upgrade(*[spoil] * (finished + 1))
    assert count_events(tmp_path / f"log.sqlite3.schema-{finished + 1}.backup") == 1


def count_events(path: Path) -> int:
    db = apsw.Connection(str(path))
    try:
        return int(next(iter(db.execute("SELECT COUNT(*) FROM events")))[0])
    finally:
        db.close()


# --- rebuilding ------------------------------------------------------------------------------------
def test_a_rebuild_gives_the_same_bytes_and_names_what_was_wrong(home: Home, store: SqliteStore) -> None:
    request_job(store, "j", requested())
    first = rebuild.rebuild_all(store, home)
    before = {view.name: store.docs(view.name) for view in VIEWS}
    assert first.changed == []
    assert (first.documents["projects"], first.documents["memories"], first.memories_indexed) == (1, 1, 1)
    with store.write() as tx:
        tx.put_doc("projects", "p", b'{"project_id":"p","name":"wrong","path":"/","host":"h"}')
    home.search.write_bytes(b"broken")
    assert rebuild.rebuild_all(store, home).changed == ["projects"]
    assert {view.name: store.docs(view.name) for view in VIEWS} == before


# --- retention -------------------------------------------------------------------------------------
def test_b9_what_is_old_goes_the_files_shrink_and_events_stay(home: Home, store: SqliteStore) -> None:
    """B9: log and blobs have a retention setting, and the disk gets its space back."""
    request_job(store, "over", requested())
    bulk = b"x" * 300_000
    with store.write() as tx:
        for n in range(20):
            tx.append("job-over", [called(tx.put_blob(bulk + b"%d" % n))])
        tx.append("job-over", [StageStarted("index", 1, "w", 0)])
        tx.append("job-over", [StageCompleted("index", 1, output_blob=tx.put_blob(b'{"a":"' + bulk + b'"}'))])
        tx.append("job-over", [JobFinished("succeeded", {}, None)])
        tx.drop_stages("over")
    spans = SpanStore(home.traces)
    old_ns = (store.now_ms() - 40 * DAY_MS) * 1_000_000
    spans.put([SpanRecord("t" * 32, f"{n:016x}", None, "n" * 2000, "internal", old_ns, old_ns) for n in range(3000)])
    spans.put([SpanRecord("u" * 32, "1" * 16, None, "young", "internal", store.now_ms() * 1_000_000, None)])
    (home.logs / "worker.log").write_bytes(b"old\n" * 500_000 + b"newest\n")
    assert job.load(store, "over").stages["index"].output
    sizes, events = _sizes(home), store.position()

    kept = retain.retain(store, home, Retention(), every_ms=0)
    assert kept is not None
    assert (kept.answers, kept.outputs) == (0, 0), "nothing is old enough yet"
    done = retain.retain(store, home, Retention(answers_days=0, outputs_days=0, logs_mb=0.1), every_ms=0)

    assert done is not None
    assert (kept.spans, done.answers, done.outputs, done.logs_rotated) == (3000, 20, 1, 1)
    assert store.position() == events
    assert job.load(store, "over").stages["index"].output == {}
    store.close()
    spans.close()
    for path in (home.log, home.traces):
        apsw.Connection(str(path)).pragma("wal_checkpoint(TRUNCATE)")
    after = _sizes(home)
    assert after["log.sqlite3"] < sizes["log.sqlite3"] / 2
    assert after["traces.sqlite3"] < sizes["traces.sqlite3"] / 2
    assert (home.logs / "worker.log").stat().st_size == 0
    assert (home.logs / "worker.log.1").read_bytes().endswith(b"newest\n")
    assert retain.retain(SqliteStore(home.log), home, Retention()) is None, "done within the hour"


def test_compacting_drops_what_nothing_names_and_refuses_while_others_work(home: Home, store: SqliteStore) -> None:
    with store.write() as tx:
        orphan, named = tx.put_blob(b"o" * 2_000_000), tx.put_blob(b"named")
        tx.append("job-j", [called(named)])
    with embedded.hold(home), pytest.raises(ConflictError):
        rebuild.compact_all(store, home)
    assert rebuild.compact_all(store, home)["log.sqlite3"] > 0
    assert store.blob(named)
    with pytest.raises(CorruptLog):
        store.blob(orphan)
    assert damage(home.log, thorough=True) is None


def test_a_file_from_before_shrinking_is_left_until_it_is_compacted(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite3"
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(9000000)); DELETE FROM t")
    db.close()
    assert shrink.give_back(path) == 0
    assert shrink.compact(path) > 8_000_000
    copy_database(path, tmp_path / "copy")
    assert damage(tmp_path / "copy", thorough=True) is None


def _sizes(home: Home) -> dict[str, int]:
    """With journals: what counts is what lies on the disk."""
    return {
        path.name: sum(one.stat().st_size for one in home.root.glob(f"{path.name}*"))
        for path in (home.log, home.traces)
    }
