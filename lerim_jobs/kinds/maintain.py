"""maintain: keep memories clean: curate (per project) -> publish -> finish."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lerim_jobs.kinds.kind import AGENT, Asked, Done, Kind, Stage
from lerim_jobs.kinds.shared import FINISH, MEMORY_COUNTS, PUBLISH, counted, last, memory_lane, publish, status
from lerim_jobs.log.events import JobStatus, StageRequested

__all__ = ["KIND"]

_LOOKED = ("looked_at", "seen_before", "left_for_later", "batches")


def _first(asked: Asked) -> list[StageRequested]:
    stages = []
    for project_id in asked.projects:
        curate = StageRequested(
            stage=f"{_CURATE.name}:{project_id}",
            queue=AGENT,
            input={"project_id": project_id, "params": dict(asked.params)},
            lane=memory_lane(project_id),
        )
        stages += [curate, publish(project_id, host=asked.host, after=[curate.stage], params=asked.params)]
    return [*stages, last()]


def _result(done: Done) -> dict[str, Any]:
    sums = done.sums(_CURATE.name)
    return {**{name: sums.get(name, 0) for name in _LOOKED}, "proposals": list(_plan(done))}


def _plan(done: Done) -> Iterator[dict[str, Any]]:
    for output in done.outputs(_CURATE.name):
        for line in (*map(_faded, output.get("decayed", ())), *output.get("proposals", ())):
            yield {"project": output.get("project"), **line}


def _faded(decayed: Mapping[str, Any]) -> dict[str, Any]:
    return {"action": "decay", **{key: decayed[key] for key in ("memory_id", "title", "reason")}}


def _status(done: Done) -> JobStatus:
    return status(done, KIND.stages)


_CURATE = Stage(
    name="curate",
    queue=AGENT,
    run="workers.stages.curate",
    title="Maintain agent",
    role="lead",
    sums=(*MEMORY_COUNTS, *_LOOKED, "replayed"),
    says=counted,
    decides=("decay", "proposals", "decayed"),
    changes_memories=True,
    agent="curator",
    absorbs=True,
)

KIND = Kind(
    name="maintain",
    title="Maintain run",
    stages=(_CURATE, PUBLISH, FINISH),
    first=_first,
    result=_result,
    status=_status,
)
