"""Bringing an older log to the shape this version writes: one entry per schema number, a copy of the file before the first."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import apsw

from lerim_jobs.log.sqlite_stages import STAGES_DDL
from lerim_jobs.log.sqlite_tx import SqliteTx
from lerim_jobs.sqlite import copy_database, immediate

__all__ = ["DDL", "MIGRATIONS", "SCHEMA_VERSION", "Migration", "bring_up_to_date", "create"]

DDL = (
    """
CREATE TABLE IF NOT EXISTS events(
  position INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE, stream TEXT NOT NULL, version INTEGER NOT NULL,
  type TEXT NOT NULL, schema INTEGER NOT NULL, data TEXT NOT NULL, meta TEXT NOT NULL, at_ms INTEGER NOT NULL,
  UNIQUE(stream, version));
CREATE INDEX IF NOT EXISTS events_by_type ON events(type, position);
CREATE TABLE IF NOT EXISTS blobs(hash TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS docs(view TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY(view, key))
  WITHOUT ROWID;
"""
    + STAGES_DDL
)
"""The newest shape. A change needs a migration below and a raised number; a released one is never edited."""


class Migration(NamedTuple):
    """From schema `to - 1` to `to`. Run again after a crash in its middle, so it must not mind being half done."""

    to: int
    what: str
    run: Callable[[apsw.Connection], None]
    whole: bool = True
    """Done in one transaction, so that a crash leaves nothing half done."""


def _make_shrinkable(db: apsw.Connection) -> None:
    """Without this the file never gets smaller, whatever retention drops."""
    db.pragma("auto_vacuum", 2)
    db.execute("VACUUM")


def _rows_from_events(db: apsw.Connection) -> None:
    """Claim rows got inputs, counts and edges: they are made anew of what the events say."""
    db.execute("DROP TABLE stages")
    db.execute(STAGES_DDL)
    module, _, name = _REBUILD.partition(":")
    getattr(importlib.import_module(module), name)(SqliteTx(db))


_REBUILD = "lerim_jobs.jobs.rebuilding:rebuild_claims"
"""Whoever knows the rules of claim rows; the log does not."""

MIGRATIONS: tuple[Migration, ...] = (
    Migration(2, "the file can shrink", _make_shrinkable, whole=False),
    Migration(3, "claim rows are made of events", _rows_from_events),
)
SCHEMA_VERSION = MIGRATIONS[-1].to


def create(db: apsw.Connection) -> None:
    """The tables of a new file. The caller holds the write lock."""
    with immediate(db):
        db.execute(DDL)
        db.pragma("user_version", SCHEMA_VERSION)


def bring_up_to_date(db: apsw.Connection, path: Path, steps: Sequence[Migration] = MIGRATIONS) -> Path:
    """Copy the file beside itself, then apply what is missing; returns the copy. The caller holds the write lock.

    While it is under way the file says from which schema it set out (`application_id`): what is done again after a crash
    leaves the copy as it is, for the file itself is half changed by then.
    """
    version, begun = db.pragma("user_version"), db.pragma("application_id")
    kept = path.with_name(f"{path.name}.schema-{begun or version}.backup")
    if not begun:
        copy_database(path, kept)
        db.pragma("application_id", version)
    for step in steps:
        if version < step.to:
            with immediate(db) if step.whole else nullcontext():
                step.run(db)
                db.pragma("user_version", step.to)
    db.pragma("application_id", 0)
    return kept
