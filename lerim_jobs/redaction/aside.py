"""Redaction of what lies aside in the state folder: what a restore replaced, and logs from before an upgrade.

They are stores and are changed as such, never as text; each keeps its schema, for an older version may want it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from lerim_jobs.errors import StoreUnavailable
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.sqlite_rewrite import kept_log, rewrite
from lerim_jobs.log.sqlite_tx import SqliteTx
from lerim_jobs.log.store import Tx
from lerim_jobs.paths import Home
from lerim_jobs.redaction.needles import Needles
from lerim_jobs.redaction.places import scrub_spans
from lerim_jobs.redaction.remains import hits_in_bytes
from lerim_jobs.redaction.rewriting import LogRedaction
from lerim_jobs.redaction.scrubbing import Scrubber

__all__ = ["Cleaned", "clean", "look", "said_of", "stores"]


class Cleaned(msgspec.Struct):
    """What was removed from how many files, what had to stay, and files that could not be changed with the reason."""

    hits: int = 0
    kept: int = 0
    files: int = 0
    failed: dict[str, str] = {}


def stores(home: Home) -> list[Path]:
    """The logs, then the spans that lie aside."""
    return [*_logs(home), *_spans(home)]


def said_of(home: Home, stream: str) -> Iterator[Recorded]:
    """A stream as the logs aside have it: what was appended after a backup is only there once that was restored."""
    for path in _logs(home):
        with suppress(StoreUnavailable), kept_log(path) as tx:
            yield from tx.read(stream)


def look(home: Home, scrubber: Scrubber, memory_id: str | None) -> None:
    """Let the scrubber count what it would remove from the logs aside."""
    for path in _logs(home):
        with suppress(StoreUnavailable):
            _redact(path, scrubber, change=False, memory_id=memory_id)


def clean(
    home: Home, needles: Needles, *, memory_id: str | None, pattern_hash: str | None, meta: Mapping[str, Any]
) -> Cleaned:
    """Remove it from all of them."""
    done = Cleaned()
    for path in home.before_restore.glob(f"*/{home.search.name}*"):
        path.unlink()  # a cache of the log beside it
    for path in stores(home):
        scrubber = Scrubber(needles)
        try:
            if path.name == home.traces.name:
                done.files += scrub_spans(path, scrubber) > 0
            else:
                done.files += _clean_log(path, scrubber, memory_id=memory_id, pattern_hash=pattern_hash, meta=meta)
        except StoreUnavailable as exc:
            done.failed[str(path)] = str(exc)
            continue
        done.hits += scrubber.hits
        done.kept += scrubber.kept
    return done


def _clean_log(path: Path, scrubber: Scrubber, **about: Any) -> bool:
    """Whether it was changed. What nobody names any more may still stand in its free pages."""
    counted = Scrubber(scrubber.needles)
    renamed = _redact(path, counted, change=False, **about)
    if not counted.hits and not hits_in_bytes(path, scrubber.needles):
        return False
    _redact(path, scrubber, change=True, renamed=renamed, **about)
    return True


def _redact(path: Path, scrubber: Scrubber, *, change: bool, renamed: set[str] | None = None, **about: Any) -> set[str]:
    renamed = set() if renamed is None else renamed
    with kept_log(path, leave_nothing_behind=change) as tx:
        rewrite(tx, _AsideRedaction(scrubber, running=list, alive=_nobody, change=change, renamed=renamed, **about))
    return renamed


class _AsideRedaction(LogRedaction):
    """Of a log that nobody works on, whose claim rows may be of an older shape."""

    def _clean_claim_rows(self, tx: Tx) -> None:
        assert isinstance(tx, SqliteTx)
        if not tx.execute("SELECT 1 FROM pragma_table_info('stages') WHERE name = 'input'"):
            return
        scrubber = Scrubber(self._scrubber.needles)
        for rowid, given in tx.execute("SELECT rowid, input FROM stages"):
            if (cleaned := scrubber.json(given)) != given:
                tx.execute("UPDATE stages SET input = ? WHERE rowid = ?", cleaned, rowid)


def _nobody(owner: str) -> bool:
    return False


def _logs(home: Home) -> list[Path]:
    copies = home.root.glob(f"{home.log.name}.schema-*.backup")
    return sorted((*copies, *home.before_restore.glob(f"*/{home.log.name}")))


def _spans(home: Home) -> list[Path]:
    return sorted(home.before_restore.glob(f"*/{home.traces.name}"))
