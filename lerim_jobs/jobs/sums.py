"""What the stages of an unfinished job have counted so far, a small document for each family and project.

Commits add up, so that the last stage, a cancelling and a cap on archiving need not read the outputs of all stages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from lerim_jobs.kinds import all_stages, known_stage
from lerim_jobs.kinds.kind import family
from lerim_jobs.kinds.shared import MEMORY_COUNTS
from lerim_jobs.log.store import Store, Tx

__all__ = ["Sums", "add", "forget", "memory_counts", "of", "view_of"]

Sums = Mapping[str, Counter[str]]
"""Family -> name -> sum. A family that has counted nothing is missing."""


def view_of(job_id: str) -> str:
    """The view that has a job's sums."""
    return f"_sums:{job_id}"


def add(tx: Tx, job_id: str, stage: str, output: Mapping[str, Any], *, project_id: str | None) -> None:
    """Count a completed stage: the numbers its family adds up, and that it was completed."""
    known = known_stage(stage)
    key = f"{family(stage)}/{project_id or ''}"
    stored = tx.doc(view_of(job_id), key)
    found = Counter(_decoded(stored) if stored else {})
    found["completed"] += 1
    for name in known.sums if known else ():
        if number := _number(output.get(name)):
            found[name] += number
    tx.put_doc(view_of(job_id), key, msgspec.json.encode(found))


def of(store: Store | Tx, job_id: str, *, project_id: str | None = None) -> dict[str, Counter[str]]:
    """The sums of a job, or of what it did for one project."""
    found: dict[str, Counter[str]] = {}
    for key, value in store.docs(view_of(job_id)):
        name, _, about = key.partition("/")
        if project_id in (None, about):
            found.setdefault(name, Counter()).update(_decoded(value))
    return found


def forget(tx: Tx, job_id: str) -> None:
    """The job has ended: its result has what they were for."""
    tx.clear_docs(view_of(job_id))


def memory_counts(sums: Sums) -> dict[str, int]:
    """What a job did to memories; a candidate whose quote stands nowhere counts as rejected."""
    changing = [name for name, stage in all_stages().items() if stage.changes_memories]
    counts = {name: total(sums, name, changing) for name in MEMORY_COUNTS}
    return {**counts, "rejected": counts["rejected"] + total(sums, "dropped", sums)}


def total(sums: Sums, name: str, families: Iterable[str]) -> int:
    """One number over some families."""
    return sum(sums[one][name] for one in families if one in sums)


def _number(value: object) -> int:
    if isinstance(value, list):
        return len(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _decoded(value: bytes) -> dict[str, int]:
    return msgspec.json.decode(value, type=dict[str, int])
