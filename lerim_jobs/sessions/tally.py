"""What became of the session files a job looked at: each counts once, however many parts and attempts it took."""

from __future__ import annotations

from collections import Counter
from typing import Any

from lerim_jobs.log.events import SessionIndexed

__all__ = ["UNCHANGED", "Tally"]

UNCHANGED = "unchanged"
_INDEXED = "indexed"


class Tally:
    """Counted from the events in the log, those of the job's earlier attempts included, and from what is noted of files
    that gave none. What was kept of a file counts for more than what is said of it later.
    """

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._sums = {"turns": 0, "kept_bytes": 0, "redactions": 0}

    def add(self, event: SessionIndexed) -> None:
        """Count what the log has of a file now."""
        self._set(event.path, _INDEXED if event.blob else event.skip_reason or "nothing new to keep")
        self._sums["turns"] += event.turn_to - event.turn_from
        self._sums["kept_bytes"] += event.kept_bytes
        self._sums["redactions"] += event.redactions

    def note(self, path: str, outcome: str) -> None:
        """Count a file that was not read: `UNCHANGED`, or why."""
        if outcome == UNCHANGED:
            self._files.setdefault(path, outcome)
        else:
            self._set(path, outcome)

    def counts(self) -> dict[str, Any]:
        """`found` is the sum of `indexed`, `unchanged` and `skipped`; each skipped file has its reason."""
        files = Counter(self._files.values())
        counted = {"found": files.total(), "indexed": files.pop(_INDEXED, 0), UNCHANGED: files.pop(UNCHANGED, 0)}
        return {**counted, "skipped": files.total(), "skipped_reasons": dict(sorted(files.items())), **self._sums}

    def _set(self, path: str, outcome: str) -> None:
        if self._files.get(path) != _INDEXED:
            self._files[path] = outcome
