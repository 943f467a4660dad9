"""The event store on one machine: SQLite in WAL mode through apsw, which brings a SQLite without the WAL-reset bug.

A file lock surrounds every write transaction: SQLite's own busy handler is unfair between processes, and one writer at
a time is what the design wants anyway. Not for network drives.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from lerim_jobs import faults
from lerim_jobs.clock import now_ms
from lerim_jobs.errors import CorruptLog, StoreUnavailable
from lerim_jobs.ids import digest
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import Event
from lerim_jobs.log.migrations import SCHEMA_VERSION, bring_up_to_date, create
from lerim_jobs.log.sqlite_rewrite import rewrite
from lerim_jobs.log.sqlite_stages import StageTable
from lerim_jobs.log.sqlite_tx import SELECT_EVENTS, SqliteTx, blob, event_rows, read_all
from lerim_jobs.log.store import ANY, Edge, Identified, Rewriting, StageCount, StageRow, StageState
from lerim_jobs.log.wal_flush import WalFlush, to_disk
from lerim_jobs.log.write_lock import WriteLock
from lerim_jobs.sqlite import immediate, leave_nothing, open_wal

__all__ = ["SAFE_SQLITE", "SCHEMA_VERSION", "SqliteStore"]

SAFE_SQLITE = (3, 51, 3)
_BUSY_MS = 30_000
_TURN_S = 120.0
"""Longer than the file's lock is waited for: who holds the turn is told first."""
_log = logging.getLogger(__name__)


class SqliteStore:
    """Open with `create=True` to make the file; a missing file without it reads as StoreUnavailable.

    `sync` makes what was written to a descriptor durable; only those who can do without their data pass another one.

    Safe across threads and forks: each (process, thread) gets a connection and a lock file descriptor of its own.
    """

    def __init__(self, path: Path, *, create: bool = True, sync: Callable[[int], None] = to_disk) -> None:
        if tuple(map(int, apsw.sqlite_lib_version().split("."))) < SAFE_SQLITE:
            raise StoreUnavailable(
                f"SQLite {apsw.sqlite_lib_version()} can corrupt a WAL; install apsw 3.51.3 or newer"
            )
        if not create and not path.exists():
            raise StoreUnavailable(f"there is no log at {str(path)!r}: run `lerim init` first")
        self._path, self._sync = path, sync
        self._local = threading.local()
        self._stages = StageTable(self._query)
        self._flush, self._turn, self._flush_pid = WalFlush(path, sync=sync), threading.Lock(), os.getpid()
        with self._failing():
            self._prepare()

    # --- connections ---
    def _prepare(self) -> None:
        db = self._db()
        version = db.pragma("user_version")
        if version > SCHEMA_VERSION:
            raise StoreUnavailable(
                f"{str(self._path)!r} was written by a newer lerim-jobs "
                f"(schema {version}, this one knows {SCHEMA_VERSION}): upgrade"
            )
        if version < SCHEMA_VERSION:
            with self._local.lock.held():
                self._upgrade(db)

    def _upgrade(self, db: apsw.Connection) -> None:
        version = db.pragma("user_version")  # again, under the lock: another process may have been quicker
        if version == 0:
            create(db)
        elif version < SCHEMA_VERSION:
            kept = bring_up_to_date(db, self._path)
            _log.warning("the log was brought from schema %d to %d; as it was: %s", version, SCHEMA_VERSION, kept)

    def _db(self) -> apsw.Connection:
        local = self._local
        if getattr(local, "pid", None) != os.getpid():
            # After a fork the inherited connection must not be used; closing it would drop the parent's locks.
            local.inherited = getattr(local, "db", None)
            try:
                lock = WriteLock(self._path)
                db = open_wal(self._path, busy_ms=_BUSY_MS, synchronous="normal")
            except OSError as exc:
                raise StoreUnavailable(f"cannot open the log {str(self._path)!r}: {exc.strerror}") from exc
            if self._flush_pid != os.getpid():
                self._flush, self._turn, self._flush_pid = (
                    WalFlush(self._path, sync=self._sync),
                    threading.Lock(),
                    os.getpid(),
                )
            local.db, local.pid, local.lock, local.in_tx = db, os.getpid(), lock, False
        connection: apsw.Connection = local.db
        return connection

    @contextmanager
    def _exclusive(self, db: apsw.Connection) -> Iterator[None]:
        # Threads of one process take turns before they ask for the file's lock: that costs each of them far less.
        turn = self._turn
        if not turn.acquire(timeout=_TURN_S):
            raise StoreUnavailable(f"another thread of this process has kept {str(self._path)!r} for {_TURN_S:g} s")
        try:
            with self._local.lock.held(), immediate(db):
                yield
        finally:
            turn.release()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (apsw.CorruptError, apsw.NotADBError) as exc:
            raise CorruptLog(f"{str(self._path)!r} is damaged: {exc}. Restore a backup; nothing was changed.") from exc
        except apsw.Error as exc:
            raise StoreUnavailable(f"cannot use the log {str(self._path)!r}: {exc}") from exc

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[SqliteTx]:
        with self._failing():
            db = self._db()
            if self._local.in_tx:
                raise RuntimeError("a write transaction is already open in this thread")
            self._local.in_tx = True
            try:
                with self._exclusive(db):
                    yield SqliteTx(db)
                    if faults.armed(faults.DISK_FULL):
                        raise apsw.FullError("database or disk is full")
            finally:
                self._local.in_tx = False
            if durable:
                self._make_durable()

    def _make_durable(self) -> None:
        try:
            self._flush.wait()
        except OSError as exc:
            raise StoreUnavailable(f"the disk did not take the log {str(self._path)!r}: {exc.strerror}") from exc

    def _query(self, sql: str, *args: Any) -> list[tuple[Any, ...]]:
        with self._failing():
            return list(self._db().execute(sql, args))

    # --- the store ---
    def append(
        self,
        stream: str,
        events: Sequence[Event | Identified],
        *,
        expected: int = ANY,
        meta: Mapping[str, Any] | None = None,
    ) -> int:
        with self.write() as tx:
            return tx.append(stream, events, expected=expected, meta=meta)

    def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Recorded]:
        sql = f"{SELECT_EVENTS} WHERE stream=? AND version>? ORDER BY version LIMIT ?"
        return event_rows(self._query(sql, stream, after, -1 if limit is None else limit))

    def read_all(self, after: int = 0, limit: int = 1000, types: Sequence[str] | None = None) -> list[Recorded]:
        return read_all(self._query, after, limit, types)

    def position(self) -> int:
        return int(self._query("SELECT COALESCE(MAX(position), 0) FROM events")[0][0])

    def tail(self, after: int, *, poll_s: float = 0.05) -> Iterator[list[Recorded]]:
        seen: Any = None
        while True:
            # data_version changes only when another connection committed; our own thread reads its own writes anyway.
            version = self._query("PRAGMA data_version")[0][0]
            batch = self.read_all(after) if version != seen else []
            seen = version if not batch else None
            after = batch[-1].position if batch else after
            yield batch
            if not batch:
                time.sleep(poll_s)

    def put_blob(self, data: bytes) -> str:
        blob_hash = digest(data)
        if not self._query("SELECT 1 FROM blobs WHERE hash=?", blob_hash):
            with self.write() as tx:
                tx.put_blob(data)
        return blob_hash

    def blob(self, blob_hash: str) -> bytes:
        return blob(self._query, blob_hash)

    def stage(self, job_id: str, stage: str) -> StageRow | None:
        return self._stages.one(job_id, stage)

    def stages(self, job_id: str, name: str | None = None) -> list[StageRow]:
        return self._stages.of_job(job_id, name)

    def has_stages(self, job_id: str) -> bool:
        return self._stages.any_of_job(job_id)

    def open_jobs(self) -> list[str]:
        return self._stages.open_jobs()

    def before(self, job_id: str, stage: str) -> list[Edge]:
        return self._stages.before(job_id, stage)

    def running_stages(self) -> list[StageRow]:
        return self._stages.running()

    def ready_stages(
        self, queue: str, *, sent_before_ms: int, limit: int, after: tuple[int, str, str] = (-1, "", "")
    ) -> list[StageRow]:
        return self._stages.ready(queue, sent_before_ms=sent_before_ms, limit=limit, after=after)

    def far_stages(self, due_after_ms: int) -> list[StageRow]:
        return self._stages.far(due_after_ms)

    def count_stages(self, job_id: str | None = None, state: StageState | None = None) -> list[StageCount]:
        return self._stages.counts(job_id, state)

    def doc(self, view: str, key: str) -> bytes | None:
        rows = self._query("SELECT value FROM docs WHERE view=? AND key=?", view, key)
        return rows[0][0] if rows else None

    def docs(self, view: str, prefix: str = "") -> list[tuple[str, bytes]]:
        # No character of any key is above the byte FF.
        sql = "SELECT key, value FROM docs WHERE view=?1 AND key>=?2 AND key<?2||CAST(x'FF' AS TEXT) ORDER BY key"
        return [(key, value) for key, value in self._query(sql, view, prefix)]

    def doc_views(self) -> list[str]:
        return [view for (view,) in self._query("SELECT DISTINCT view FROM docs ORDER BY view")]

    def blob_hashes(self, after: str = "", limit: int = 10_000) -> list[str]:
        sql = "SELECT hash FROM blobs WHERE hash>? ORDER BY hash LIMIT ?"
        return [blob_hash for (blob_hash,) in self._query(sql, after, limit)]

    def rewrite(self, rewriting: Rewriting) -> None:
        with self.write() as tx:
            rewrite(tx, rewriting)
        db = self._db()
        # Through the same lock as every writer: VACUUM is one.
        with self._failing(), self._local.lock.held():
            leave_nothing(db)

    def now_ms(self) -> int:
        return now_ms()

    def close(self) -> None:
        """Close this thread's connection; other threads close theirs by ending."""
        if getattr(self._local, "pid", None) == os.getpid():
            self._local.db.close()
            self._local.lock.close()
            self._local.pid = None
