"""The file of the search index: its tables, who may read it, and what happens to one that is damaged or of another schema."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import apsw

from lerim_jobs.machine.locks import exclusive
from lerim_jobs.memory.search.ranking import COLUMNS
from lerim_jobs.sqlite import immediate, open_wal

__all__ = ["TOKENIZER_ARGUMENTS", "opened", "removed"]

TOKENIZER_ARGUMENTS = ["unicode61", "categories", "L* N* M* Co"]

_TOKENIZE = """tokenize="porter unicode61 categories 'L* N* M* Co'\""""
_SCHEMA = 5
_DDL = f"""
CREATE TABLE about(position INTEGER NOT NULL, event_id TEXT NOT NULL, counted_rows INTEGER NOT NULL);
CREATE TABLE counted(term TEXT PRIMARY KEY, rows INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE known(
  memory_id TEXT PRIMARY KEY, row INTEGER NOT NULL UNIQUE, version INTEGER NOT NULL, project_id TEXT NOT NULL,
  status TEXT NOT NULL, kind TEXT NOT NULL, confidence REAL NOT NULL, accessed_ms INTEGER NOT NULL);
CREATE INDEX known_by_project ON known(project_id, status, accessed_ms);
CREATE TABLE sources(stream TEXT NOT NULL, memory_id TEXT NOT NULL, PRIMARY KEY(stream, memory_id)) WITHOUT ROWID;
CREATE TABLE vectors(memory_id TEXT PRIMARY KEY, version INTEGER NOT NULL, model TEXT NOT NULL, vector BLOB NOT NULL);
CREATE VIRTUAL TABLE texts USING fts5({", ".join(COLUMNS)}, content='', contentless_delete=1, {_TOKENIZE});
CREATE VIRTUAL TABLE terms USING fts5vocab(texts, 'row');
INSERT INTO about VALUES(0, '', 0);
"""


def opened(path: Path | None) -> apsw.Connection:
    """The index, made where there is none or none that can be used; in memory without a path."""
    if path is None:
        return _prepared(apsw.Connection(":memory:"))
    with exclusive(_lock(path)):
        try:
            return _from_file(path)
        except (apsw.CorruptError, apsw.NotADBError):
            _remove(path)
            return _from_file(path)


def removed(path: Path) -> None:
    """Throw the file away, with all it says; whoever has it open keeps what they opened. A redaction ends with this."""
    with exclusive(_lock(path)):
        _remove(path)


def _lock(path: Path) -> Path:
    """Opening and removing exclude each other: SQLite would join one file's WAL to the next one of that name."""
    return Path(f"{path}.lock")


def _from_file(path: Path) -> apsw.Connection:
    db = open_wal(path, busy_ms=10_000, synchronous="normal")
    if db.pragma("user_version") not in (0, _SCHEMA):
        db.close()
        _remove(path)
        return _from_file(path)
    return _prepared(db)


def _prepared(db: apsw.Connection) -> apsw.Connection:
    if db.pragma("user_version") == 0:
        with immediate(db):
            db.execute(_DDL)
            db.pragma("user_version", _SCHEMA)
    return db


def _remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(f"{path}{ending}").unlink()
