"""A log of schema 2, written by the version before claim rows were made of events: it opens, and every job in it ends."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from lerim_jobs import config
from lerim_jobs.audit.audit import audit
from lerim_jobs.care.rebuild import rebuild_all
from lerim_jobs.jobs import claims, parking, pausing
from lerim_jobs.jobs.job import load
from lerim_jobs.jobs.pausing import startable
from lerim_jobs.jobs.rebuilding import rebuild_claims
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine import identity
from lerim_jobs.paths import Home
from lerim_jobs.tracing.export.backends import start
from workers.leases import Leases
from workers.runner import Runner

SQL = Path(__file__).parents[1] / "golden" / "log_schema_2.sql"
UNFINISHED = ["ask-half", "ask-parked", "check-revived", "maintain-paused", "sync-middle"]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "h").ensure()
    (tmp_path / "shop").mkdir()
    db = sqlite3.connect(made.log)
    db.execute("PRAGMA auto_vacuum=2")
    db.execute("PRAGMA journal_mode=WAL")
    sql = SQL.read_text("utf-8")
    for text in (str.encode, lambda part: part.encode().hex().upper().encode()):
        sql = sql.replace(text("@ROOT@").decode(), text(str(tmp_path)).decode())
    db.executescript(sql)
    db.execute("PRAGMA user_version=2")
    db.close()
    return made


@pytest.fixture
def store(home: Home) -> Iterator[SqliteStore]:
    opened = SqliteStore(home.log)
    yield opened
    opened.close()


def states(store: SqliteStore, job_id: str) -> dict[str, str]:
    return {row.stage.rpartition(":")[0] or row.stage: row.state for row in store.stages(job_id)}


def test_every_stage_stands_where_it_stood(home: Home, store: SqliteStore) -> None:
    assert (store.open_jobs(), home.log.with_name("log.sqlite3.schema-2.backup").exists()) == (UNFINISHED, True)
    rows = {row.stage: row for row in store.stages("sync-middle")}
    by_state: dict[str, list[str]] = {}
    for row in rows.values():
        by_state.setdefault(row.state, []).append(row.stage.partition(":")[0])
    assert by_state == {
        "done": ["index", "extract", "summarize"],
        "ready": ["integrate", "extract", "summarize"],
        "dead": ["extract"],
        "running": ["summarize"],
        "skipped": ["integrate"],
        "waiting": ["finish", "integrate", "publish"],
    }
    assert rows["finish"].open_needs == 6
    assert sorted((row.attempt, row.strikes) for row in rows.values() if row.attempt and row.state == "ready") == [
        (1, 0),  # handed back: no strike
        (1, 1),
    ]
    assert states(store, "ask-parked") == {"answer": "parked", "finish": "waiting"}
    assert states(store, "ask-half") == {"answer": "done", "finish": "ready"}
    assert all(row.input != b"{}" for row in rows.values() if row.stage.startswith(("extract", "integrate")))


def test_making_the_rows_again_changes_nothing_and_brings_back_what_is_lost(home: Home, store: SqliteStore) -> None:
    with store.write() as tx:
        assert rebuild_claims(tx) == []
        kept = {job_id: tx.stages(job_id) for job_id in tx.open_jobs()}
        tx.drop_stages("sync-middle")
        assert rebuild_claims(tx) == ["sync-middle"]
        assert [(row.stage, row.state, row.open_needs) for row in tx.stages("sync-middle")] == [
            (row.stage, row.state, row.open_needs) for row in kept["sync-middle"]
        ]
        assert rebuild_claims(tx) == []
    assert rebuild_all(store, home).changed == []


def test_every_unfinished_job_ends_and_the_audit_finds_six_zeros(home: Home, store: SqliteStore) -> None:
    runner = offline_runner(home, store)
    pausing.resume_job(store, "maintain-paused")
    deadline = time.monotonic() + 60
    while store.open_jobs() and time.monotonic() < deadline:
        for job_id, stage in parking.woken(store, config.Settings()):
            claims.wake(store, job_id, stage)
        expired = [(row.job_id, row.stage) for row in store.running_stages()]
        for job_id, stage in [*expired, *((row.job_id, row.stage) for row in startable(store))]:
            runner.run_hint(job_id, stage)
    assert store.open_jobs() == []
    ended = {job_id: load(store, job_id) for job_id in UNFINISHED}
    assert {job_id: job.status for job_id, job in ended.items()} == {
        "ask-half": "succeeded",
        "ask-parked": "succeeded",
        "check-revived": "succeeded",
        "maintain-paused": "succeeded",
        "sync-middle": "partial",
    }
    assert ended["sync-middle"].result["memories"]["added"] > 0
    assert ended["sync-middle"].result["sessions"]["quarantined"] == 1
    report = audit(home, store, config.Settings(), runner.env)
    assert report.ok, report
    assert rebuild_all(store, home).changed == []
    runner.telemetry.shutdown()


def test_a_crash_in_the_middle_leaves_the_old_log_and_its_copy_as_they_were(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(tx: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("lerim_jobs.jobs.rebuilding.rebuild_claims", crash)
        with pytest.raises(KeyboardInterrupt):
            SqliteStore(home.log)
    db = apsw.Connection(str(home.log))
    assert (db.pragma("user_version"), db.execute("SELECT COUNT(needs) FROM stages").fetchall()) == (2, [(24,)])
    db.close()
    store = SqliteStore(home.log)
    assert store.open_jobs() == UNFINISHED
    store.close()


def offline_runner(home: Home, store: SqliteStore) -> Runner:
    env = {"HOME": str(home.root.parent), "LERIM_HOME": str(home.root), "LERIM_PROVIDER": "offline"}
    env |= {"CLAUDE_CONFIG_DIR": str(home.root.parent / "claude"), "CODEX_HOME": str(home.root.parent / "codex")}
    settings = config.load(env)
    return Runner(
        store=store,
        home=home,
        env=env,
        owner=identity.me(),
        host="laptop",
        leases=Leases(store),
        telemetry=start(home, settings, env),
        send=lambda rows: None,
        caps=lambda: settings,
    )
