"""A job whose stages are all settled, as its last stage and a cancelling see it: sums, lost stages, a few outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import msgspec

from lerim_jobs.jobs import sums
from lerim_jobs.jobs.loading import outputs_of
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.kinds import all_stages
from lerim_jobs.kinds.kind import LostStage
from lerim_jobs.kinds.shared import FILE_COUNTS
from lerim_jobs.log.events import JobRequested, StageFailed, StageQuarantined, StageSkipped
from lerim_jobs.log.store import StageRow, Store

__all__ = ["Ended"]


class Ended:
    """What `kinds.kind.Done` asks for. Reads outputs only of the families somebody asks about."""

    def __init__(self, store: Store, job_id: str, request: JobRequested) -> None:
        self._store, self._job_id, self.request = store, job_id, request

    @cached_property
    def all_sums(self) -> dict[str, Counter[str]]:
        """The sums of every family."""
        return sums.of(self._store, self._job_id)

    @cached_property
    def lost(self) -> Sequence[LostStage]:
        """Stages that were given up or never ran, in the order of the plan."""
        if sum(counts["completed"] for counts in self.all_sums.values()) == self._settled:
            return []
        rows = self._store.stages(self._job_id)
        return [self._lost(row) for row in rows if row.state in ("dead", "skipped")]

    @cached_property
    def _settled(self) -> int:
        """How many stages the job has besides its last one."""
        return sum(one.stages for one in self._store.count_stages(self._job_id)) - 1

    def outputs(self, name: str) -> Sequence[Mapping[str, Any]]:
        """Of the family's completed stages, in the order of the plan."""
        return [output for _, output in outputs_of(self._store, self._store.stages(self._job_id, name))]

    def sums(self, name: str) -> Mapping[str, int]:
        """The family's sums; a name nobody added to counts 0."""
        return self.all_sums.get(name, Counter())

    def completed(self, name: str) -> int:
        """How many stages of the family were completed."""
        return self.sums(name).get("completed", 0)

    def files(self) -> dict[str, Any]:
        """What publishing did, over all projects, and what a person should look at."""
        publishing = [name for name, stage in all_stages().items() if stage.publishes]
        counts = {name: sums.total(self.all_sums, name, publishing) for name in FILE_COUNTS}
        outputs = (output for name in publishing for output in self.outputs(name))
        return {**counts, "problems": [problem for output in outputs for problem in output.get("problems", ())]}

    def _lost(self, row: StageRow) -> LostStage:
        reason, code = self._why(row)
        needs = [edge.before for edge in self._store.before(self._job_id, row.stage) if edge.needed]
        return LostStage(row.stage, row.state, reason, code, msgspec.json.decode(row.input), needs)

    def _why(self, row: StageRow) -> tuple[str, str]:
        """Why it was lost, and the code of the failure right before, where one said so."""
        last = self._store.read(job_stream(self._job_id), max(0, (row.outcome or 0) - 2), limit=2)
        reason = code = ""
        for event in (one.event for one in last):
            if isinstance(event, StageFailed) and event.stage == row.stage:
                code = event.code
            if isinstance(event, StageQuarantined | StageSkipped) and event.stage == row.stage:
                reason = event.reason
        return reason, code
