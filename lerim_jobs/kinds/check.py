"""check: ask the model of each role for one word: check (one a role) -> finish."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lerim_jobs.config import ROLES
from lerim_jobs.kinds.kind import ASK, Asked, Done, Kind, Stage, part
from lerim_jobs.kinds.shared import FINISH, last
from lerim_jobs.log.events import JobStatus, StageRequested

__all__ = ["KIND"]


def _first(asked: Asked) -> list[StageRequested]:
    roles = [StageRequested(stage=f"{_CHECK.name}:{role}", queue=ASK, input={"role": role}) for role in ROLES]
    return [*roles, last()]


def _result(done: Done) -> dict[str, Any]:
    return {"roles": {output["role"]: output for output in done.outputs(_CHECK.name)}}


def _status(done: Done) -> JobStatus:
    return "succeeded" if not done.lost and all(one.get("ok") for one in done.outputs(_CHECK.name)) else "failed"


def _said(stage: str, output: Mapping[str, Any]) -> str:
    return f"{part(stage)} {'ok' if output.get('ok') else 'failed'}"


_CHECK = Stage(name="check", queue=ASK, run="workers.stages.check", title="Check model", says=_said)

KIND = Kind(
    name="check",
    title="Check models",
    stages=(_CHECK, FINISH),
    first=_first,
    result=_result,
    status=_status,
    covers_projects=False,
)
