"""Which stage comes next, as data: the plan each kind of job starts with, and what a finished index adds to it.

    sync      index -> per session: extract (one a window) + summarize -> integrate -> publish -> finish;
              publish also where only files were edited by hand
    maintain  curate (per project) -> publish -> finish
    ask       answer -> finish
    check     check (one a model role) -> finish

`integrate` waits for the older session of the same project, so later sessions correct earlier memories; its lane keeps
two jobs on one project apart. `publish` waits for all integrations of its project, dead ones included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lerim_jobs.config import ROLES
from lerim_jobs.jobs.settlement import FINISH
from lerim_jobs.log.events import JobKind, StageRequested

__all__ = ["AGENT", "ASK", "EXTRACT", "QUEUES", "SessionPlan", "after_index", "first", "host_queue"]

ASK = "ask"
AGENT = "agent"
EXTRACT = "extract"
QUEUES = (ASK, AGENT, EXTRACT)
"""Queues any worker may serve; host-bound stages have one more per host."""


class SessionPlan(msgspec.Struct, frozen=True):
    """A session that index took for extraction: turns `turn_from <= n < turn_to`, cut into `windows` windows.

    The window sizes travel with the plan, so that every attempt cuts the same windows whatever the settings say later.
    """

    key: str
    stream: str
    session_id: str
    agent: str
    project_id: str
    turn_from: int
    turn_to: int
    windows: int
    window_tokens: int
    overlap_tokens: int
    title: str = ""


def host_queue(host: str) -> str:
    """The queue of stages that need this host's files."""
    return f"host.{host}"


def first(kind: JobKind, params: Mapping[str, Any], *, host: str, projects: Sequence[str]) -> list[StageRequested]:
    """The stages a job is requested with. `projects` are project ids, for maintain."""
    finish = StageRequested(stage=FINISH, queue=ASK, after=["*"])
    if kind == "ask":
        return [StageRequested(stage="answer", queue=ASK, input=dict(params)), finish]
    if kind == "sync":
        return [StageRequested(stage="index", queue=host_queue(host), host=host, input=dict(params)), finish]
    if kind == "check":
        roles = [StageRequested(stage=f"check:{role}", queue=ASK, input={"role": role}) for role in ROLES]
        return [*roles, finish]
    stages = []
    for project_id in projects:
        curate = f"curate:{project_id}"
        lane = _memory_lane(project_id)
        stages += [
            StageRequested(
                stage=curate, queue=AGENT, input={"project_id": project_id, "params": dict(params)}, lane=lane
            ),
            _publish(project_id, host, needs=[], after=[curate], params=params),
        ]
    return [*stages, finish]


def after_index(
    sessions: Sequence[SessionPlan], *, host: str, params: Mapping[str, Any], touched: Sequence[str] = ()
) -> list[StageRequested]:
    """What index adds for the sessions it took, the oldest first in each project. `touched` are projects whose files need
    a publish whatever the sessions say.
    """
    stages: list[StageRequested] = []
    integrations: dict[str, list[str]] = {}
    for session in sessions:
        about = {"session": msgspec.to_builtins(session)}
        parts = [f"extract:{session.key}:{window}" for window in range(session.windows)]
        parts.append(f"summarize:{session.key}")
        stages += [StageRequested(stage=name, queue=EXTRACT, input={**about, **_window(name)}) for name in parts]
        before = integrations.setdefault(session.project_id, [])
        integrate = f"integrate:{session.key}"
        stages.append(
            StageRequested(
                stage=integrate,
                queue=AGENT,
                input={**about, "dry_run": bool(params.get("dry_run"))},
                needs=parts,
                after=before[-1:],
                lane=_memory_lane(session.project_id),
            )
        )
        before.append(integrate)
    for project in dict.fromkeys((*integrations, *touched)):
        stages.append(_publish(project, host, needs=[], after=integrations.get(project, []), params=params))
    return stages


def _publish(
    project_id: str, host: str, *, needs: list[str], after: list[str], params: Mapping[str, Any]
) -> StageRequested:
    return StageRequested(
        stage=f"publish:{project_id}",
        queue=host_queue(host),
        host=host,
        needs=needs,
        after=after,
        input={"project_id": project_id, "dry_run": bool(params.get("dry_run"))},
        lane=f"files-{project_id}",
    )


def _window(stage: str) -> dict[str, int]:
    family, _, rest = stage.partition(":")
    return {"window": int(rest.rpartition(":")[2])} if family == "extract" else {}


def _memory_lane(project_id: str) -> str:
    return f"memory-{project_id}"
