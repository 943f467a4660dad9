"""A stage costs the same whatever the size of its job: rows and events that are read are counted, not timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lerim_jobs.config import Settings
from lerim_jobs.jobs import outcomes
from lerim_jobs.jobs.request import request_job
from lerim_jobs.kinds.sync import SessionPlan, after_index
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.store import StageRow
from lerim_jobs.paths import Home
from tests.contracts.test_claims import requested, taken
from tests.memory_store import MemoryStore
from workers.work import Workshop


class Counting(MemoryStore):
    """Counts the claim rows and events it gives out."""

    given = 0

    def _count(self, rows: list[Any]) -> list[Any]:
        self.given += len(rows)
        return rows

    def read(self, stream: str, after: int = 0, limit: int | None = None) -> list[Recorded]:
        return self._count(super().read(stream, after, limit))

    def stages(self, job_id: str, name: str | None = None) -> list[StageRow]:
        return self._count(super().stages(job_id, name))

    def lane(self, lane: str) -> list[StageRow]:
        return self._count(super().lane(lane))

    def stage(self, job_id: str, stage: str) -> StageRow | None:
        self.given += 1
        return super().stage(job_id, stage)

    def count_open(self, job_id: str, stage: str, by: int) -> StageRow | None:
        self.given += 1
        return super().count_open(job_id, stage, by)


def cost(sessions: int, place: Path) -> dict[str, int]:
    """What is read to claim, open and complete a stage of each family, in a job with so many sessions."""
    store = Counting()
    workshop = Workshop(store, Home(place), {}, "h", Settings, {})
    request_job(store, "j", requested())
    plans = [SessionPlan(f"{n:08x}", f"s-{n}", str(n), "codex", "p1", 0, 4, 2, 800, 20) for n in range(sessions)]
    outcomes.complete(store, taken(store, "index"), output={}, next_stages=after_index(plans, host="h", params={}))
    found = {}
    for stage in ("extract:00000000:0", "extract:00000000:1", "summarize:00000000", "integrate:00000000"):
        store.given = 0
        held = taken(store, stage)
        workshop.context(workshop.open(held))
        outcomes.complete(store, held, output={"candidates": [], "dropped": []})
        found[stage] = store.given
    return found


@pytest.mark.parametrize("sessions", [10, 60])
def test_reading_for_a_stage_does_not_grow_with_its_job(sessions: int, tmp_path: Path) -> None:
    assert cost(sessions, tmp_path) == cost(2, tmp_path)
