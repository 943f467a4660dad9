"""What a commit waits for: the disk where it must, nothing where it need not, one flush for many at once."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.jobs import claims, outcomes
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import MemoryArchived
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.wal_flush import WalFlush
from tests.contracts.test_claims import requested, taken
from tests.waiting import until


class Disk:
    """Counts what it was asked to make durable, and how much of the file was there."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def sync(self, descriptor: int) -> None:
        self.sizes.append(os.fstat(descriptor).st_size)
        assert self.go_on.wait(10)


def test_outcomes_wait_for_the_disk_claims_and_renewals_do_not(tmp_path: Path) -> None:
    disk = Disk()
    store = SqliteStore(tmp_path / "log.sqlite3", sync=disk.sync)
    request_job(store, "j", requested("ask"))
    assert len(disk.sizes) == 1
    held = taken(store, "answer")
    assert claims.renew(store, [held]) == []
    assert len(disk.sizes) == 1
    before = os.stat(tmp_path / "log.sqlite3-wal").st_size
    outcomes.complete(store, held, output={})
    assert len(disk.sizes) == 2
    assert disk.sizes[-1] > before > disk.sizes[0]  # the claim went along
    store.close()


def test_every_committed_byte_is_there_when_the_flush_begins(tmp_path: Path) -> None:
    disk = Disk()
    store = SqliteStore(tmp_path / "log.sqlite3", sync=disk.sync)
    for n in range(5):
        store.append("memory-m", [MemoryArchived(memory_id=f"m{n}" * 200)])
        assert disk.sizes[-1] == os.stat(tmp_path / "log.sqlite3-wal").st_size
    store.close()


def test_commits_that_come_while_the_disk_is_busy_share_the_next_flush(tmp_path: Path) -> None:
    wal = tmp_path / "log-wal"
    wal.write_bytes(b"x")
    disk = Disk()
    flush = WalFlush(tmp_path / "log", sync=disk.sync)
    disk.go_on.clear()
    first = threading.Thread(target=flush.wait)
    first.start()
    until(lambda: disk.sizes, 10, what="the first flush")
    wal.write_bytes(b"xxxx")
    others = [threading.Thread(target=flush.wait) for _ in range(6)]
    for thread in others:
        thread.start()
    until(lambda: flush.asked == 7, 10, what="all of them waiting")
    disk.go_on.set()
    for thread in (first, *others):
        thread.join(10)
        assert not thread.is_alive()
    assert disk.sizes == [1, 4]  # one for all six, and not the one that had begun before they were written


def test_a_log_whose_journal_was_carried_into_it_needs_no_flush(tmp_path: Path) -> None:
    disk = Disk()
    WalFlush(tmp_path / "gone", sync=disk.sync).wait()
    assert disk.sizes == []


def test_a_disk_that_refuses_is_said_in_one_line(tmp_path: Path) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store = SqliteStore(tmp_path / "log.sqlite3", sync=refuse)
    with pytest.raises(StoreUnavailable, match=r"did not take the log .*Input/output error"):
        store.append("memory-m", [MemoryArchived(memory_id="m")])
    store.close()
