"""Write transactions of several threads."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import apsw
import pytest

from lerim_jobs.sqlite import immediate, open_wal


def opened(path: Path) -> apsw.Connection:
    db = apsw.Connection(str(path))
    db.set_busy_timeout(5000)
    db.transaction_mode = "IMMEDIATE"
    db.pragma("journal_mode", "wal")
    return db


def test_a_waiting_writer_does_not_stop_the_thread_it_waits_for(tmp_path: Path) -> None:
    first = opened(tmp_path / "x.sqlite3")
    first.execute("CREATE TABLE t(a)")
    began = threading.Event()

    def second() -> None:
        db = opened(tmp_path / "x.sqlite3")
        began.set()
        with immediate(db):
            db.execute("INSERT INTO t VALUES(2)")

    with immediate(first):
        thread = threading.Thread(target=second)
        thread.start()
        began.wait(5)
        begin = time.monotonic()
        for number in range(10):
            first.execute("INSERT INTO t VALUES(?)", (number,))
            time.sleep(0.01)  # lets the other thread run
        assert time.monotonic() - begin < 4.0, "the waiting thread kept the interpreter lock"
    thread.join(5)
    assert first.execute("SELECT COUNT(*) FROM t").get == 11


def test_opening_waits_for_one_who_is_just_making_the_file(tmp_path: Path) -> None:
    """SQLite itself says "locked" at once when it is asked to change the journal mode meanwhile."""
    path = tmp_path / "x.sqlite3"
    maker = apsw.Connection(str(path))
    maker.execute("CREATE TABLE t(a); BEGIN IMMEDIATE; INSERT INTO t VALUES(1)")
    timer = threading.Timer(0.2, lambda: maker.execute("COMMIT"))
    timer.start()
    db = open_wal(path, busy_ms=5000, synchronous="normal")
    timer.join(5)
    assert db.pragma("journal_mode") == "wal"


def test_an_error_rolls_back(tmp_path: Path) -> None:
    db = opened(tmp_path / "x.sqlite3")
    db.execute("CREATE TABLE t(a)")
    with pytest.raises(apsw.SQLError), immediate(db):
        db.execute("INSERT INTO t VALUES(1); SELECT * FROM nothing")
    assert db.execute("SELECT COUNT(*) FROM t").get == 0
