"""sync: new and grown sessions become memories.

    index -> per session: extract (one a window) + summarize -> integrate -> publish -> finish;
    one extract gives the summary as well where one window holds the session and one model has both roles;
    publish also where only files were edited by hand

`integrate` comes after the older session of the same project, so later sessions correct earlier memories; its lane keeps two
jobs on one project apart. `publish` comes after all integrations of its project, dead ones included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lerim_jobs.kinds.kind import AGENT, EXTRACT, HOST, Asked, Done, Kind, Stage, family, host_queue
from lerim_jobs.kinds.shared import FINISH, MEMORY_COUNTS, PUBLISH, counted, last, memory_lane, publish, status
from lerim_jobs.log.events import JobStatus, StageRequested

__all__ = ["KIND", "WRONG_SETTINGS", "SessionPlan", "after_index"]

WRONG_SETTINGS = "its project's settings file is wrong"
"""Why sessions of a project are left: somebody has to change that file first."""
_FILES = ("found", "indexed", "unchanged", "skipped")


Bounds = tuple[int, int, int, int]
"""A window of a session, as `sessions/windows.py` cuts it."""


class SessionPlan(msgspec.Struct, frozen=True, omit_defaults=True):
    """A session that index took for extraction: turns `turn_from <= n < turn_to`, to be extracted in `windows` windows.

    The windows travel with the plan, so that every attempt reads the same ones whatever the settings say later; a stage is
    given those that it reads itself. In plans of earlier versions there are none: they are cut by the sizes. `at_once`: the
    one extraction gives the summary too. `cwd`, `branch` and `last_ms` (when it was last active) are for prompts.
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
    extract: Sequence[Bounds] = ()
    summarize: Sequence[Bounds] = ()
    at_once: bool = False
    cwd: str = ""
    branch: str = ""
    last_ms: int | None = None


def _first(asked: Asked) -> list[StageRequested]:
    host = asked.host
    return [StageRequested(stage=_INDEX.name, queue=host_queue(host), host=host, input=dict(asked.params)), last()]


def after_index(
    sessions: Sequence[SessionPlan], *, host: str, params: Mapping[str, Any], touched: Sequence[str] = ()
) -> list[StageRequested]:
    """What index adds for the sessions it took, the oldest first in each project. `touched` are projects whose files need
    a publish whatever the sessions say.
    """
    stages: list[StageRequested] = []
    integrations: dict[str, list[str]] = {}
    for session in sessions:
        parts = _reading_stages(session)
        before = integrations.setdefault(session.project_id, [])
        integrate = StageRequested(
            stage=f"{_INTEGRATE.name}:{session.key}",
            queue=AGENT,
            input={**_about(session), "dry_run": bool(params.get("dry_run"))},
            needs=[one.stage for one in parts],
            after=before[-1:],
            lane=memory_lane(session.project_id),
        )
        stages += [*parts, integrate]
        before.append(integrate.stage)
    for project in dict.fromkeys((*integrations, *touched)):
        stages.append(publish(project, host=host, after=integrations.get(project, []), params=params))
    return stages


def _reading_stages(session: SessionPlan) -> list[StageRequested]:
    """One extraction a window, and the summary unless the one extraction gives it."""
    extractions = [
        StageRequested(
            stage=f"{_EXTRACT.name}:{session.key}:{number}",
            queue=EXTRACT,
            input={**_about(session, extract=session.extract[number : number + 1]), "window": number},
        )
        for number in range(session.windows)
    ]
    if session.at_once:
        return extractions
    about = _about(session, summarize=session.summarize)
    return [*extractions, StageRequested(stage=f"{_SUMMARIZE.name}:{session.key}", queue=EXTRACT, input=about)]


def _about(session: SessionPlan, *, extract: Sequence[Bounds] = (), summarize: Sequence[Bounds] = ()) -> dict[str, Any]:
    return {"session": msgspec.to_builtins(msgspec.structs.replace(session, extract=extract, summarize=summarize))}


def _result(done: Done) -> dict[str, Any]:
    index: Mapping[str, Any] = next(iter(done.outputs(_INDEX.name)), {})
    extracted = done.sums(_EXTRACT.name)
    return {
        "sessions": {
            **{name: index.get(name, 0) for name in _FILES},
            "quarantined": _lost(done),
        },
        "skipped_reasons": index.get("skipped_reasons", {}),
        "left": index.get("left", {}),
        "gone": index.get("gone", []),
        "wrong": index.get("wrong", []),
        "taken": index.get("taken", 0),
        "windows": index.get("windows", 0),
        "candidates": extracted.get("candidates", 0),
        "dropped": extracted.get("dropped", 0),
        **({"estimate": index["estimate"]} if "estimate" in index else {}),
        "proposals": [line for output in done.outputs(_INTEGRATE.name) for line in output.get("proposals", ())],
    }


def _lost(done: Done) -> int:
    """Sessions whose end never came."""
    return sum(family(one.stage) == _INTEGRATE.name for one in done.lost)


def _status(done: Done) -> JobStatus:
    ended = status(done, KIND.stages, keeps_parts=True)
    index: Mapping[str, Any] = next(iter(done.outputs(_INDEX.name)), {})
    return "partial" if ended == "succeeded" and index.get("left", {}).get(WRONG_SETTINGS) else ended


def _indexed(stage: str, output: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{output.get(name, 0)} {name}" for name in _FILES)
    return f"{counts}; {output.get('taken', 0)} to extract in {output.get('windows', 0)} windows"


def _extracted(stage: str, output: Mapping[str, Any]) -> str:
    return f"{len(output.get('candidates', ()))} candidates, {len(output.get('dropped', ()))} dropped"


_INDEX = Stage(
    name="index",
    queue=HOST,
    run="workers.stages.index",
    title="Index sessions",
    says=_indexed,
    accounts_for_files=True,
    essential=True,
)
_EXTRACT = Stage(
    name="extract",
    queue=EXTRACT,
    run="workers.stages.extract",
    title="Extract window",
    group="Extract candidates",
    role="extract",
    numbered=True,
    sums=("candidates", "dropped", "replayed"),
    says=_extracted,
    decides=("dropped",),
)
_SUMMARIZE = Stage(
    name="summarize",
    queue=EXTRACT,
    run="workers.stages.summarize",
    title="Summarize session",
    role="summarize",
    sums=("replayed",),
)
_INTEGRATE = Stage(
    name="integrate",
    queue=AGENT,
    run="workers.stages.integrate",
    title="Lead agent",
    role="lead",
    wants=(_EXTRACT.name, _SUMMARIZE.name),
    sums=(*MEMORY_COUNTS, "replayed"),
    says=counted,
    decides=("refused", "proposals"),
    changes_memories=True,
    agent="lead",
    settles_session=True,
)

KIND = Kind(
    name="sync",
    title="Sync run",
    stages=(_INDEX, _EXTRACT, _SUMMARIZE, _INTEGRATE, PUBLISH, FINISH),
    first=_first,
    result=_result,
    status=_status,
)
