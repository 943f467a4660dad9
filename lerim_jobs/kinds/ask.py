"""ask: answer a question from the memories: answer -> finish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lerim_jobs.kinds.kind import ASK, Asked, Done, Kind, Stage
from lerim_jobs.kinds.shared import FINISH, last, status
from lerim_jobs.log.events import JobStatus, StageRequested

__all__ = ["KIND"]


def _first(asked: Asked) -> list[StageRequested]:
    return [StageRequested(stage=_ANSWER.name, queue=_ANSWER.queue, input=dict(asked.params)), last()]


def _result(done: Done) -> dict[str, Any]:
    output: Mapping[str, Any] = next(iter(done.outputs(_ANSWER.name)), {})
    return {"answer": output.get("answer"), "citations": output.get("citations", [])}


def _status(done: Done) -> JobStatus:
    return status(done, KIND.stages)


_ANSWER = Stage(
    name="answer",
    queue=ASK,
    run="workers.stages.answer",
    title="Answer",
    role="lead",
    sums=("replayed",),
    essential=True,
)

KIND = Kind(name="ask", title="Ask", stages=(_ANSWER, FINISH), first=_first, result=_result, status=_status)
