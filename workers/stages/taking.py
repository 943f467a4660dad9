"""Which sessions index takes for extraction, and in which windows: decided on sessions as the log has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from lerim_jobs import ids
from lerim_jobs.config import Role
from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.kinds.sync import SessionPlan
from lerim_jobs.log.events import SessionScheduled
from lerim_jobs.log.projection import find, fold_each
from lerim_jobs.projects import Project
from lerim_jobs.sessions import projects
from lerim_jobs.sessions.session import SESSIONS, Session
from lerim_jobs.sessions.stored import each_turn
from lerim_jobs.sessions.windows import Window, cut
from workers.stage import StageContext

__all__ = ["Ready", "plan_session", "ready_sessions", "scheduled"]


class Ready(msgspec.Struct, frozen=True, order=True):
    """A session that may be extracted now, as it was at `version`; the oldest is the least."""

    last_ms: int
    stream: str
    version: int
    project_id: str


def ready_sessions(ctx: StageContext, known: Mapping[str, Project]) -> tuple[list[Ready], Counter[str]]:
    """Sessions to extract now, the oldest first, and why others with waiting turns are left."""
    left: Counter[str] = Counter()
    ready: list[Ready] = []
    folders = {key: project.path for key, project in known.items()}
    project_of = cache(lambda cwd: projects.match(cwd, folders))
    goes_on = cache(ctx.store.has_stages)
    for session in fold_each(ctx.store, SESSIONS):
        if not session.human_prompts or not (session.waiting or ctx.input.get("force")):
            continue
        project_id = project_of(session.cwd) if session.cwd else None
        if reason := _left_because(ctx.input, session, project_id, goes_on):
            left[reason] += 1
        elif project_id:
            ready.append(Ready(session.last_ms or 0, session.stream, session.version, project_id))
    limit = ctx.input.get("max_sessions") or len(ready)
    if len(ready) > limit:
        left["over the limit of sessions per run"] = len(ready) - limit
    return sorted(ready)[:limit], left


def plan_session(ctx: StageContext, ready: Ready, project: Project) -> SessionPlan:
    """What the stages of the session are told of it."""
    session = find(ctx.store, SESSIONS, ready.stream)
    assert session is not None
    roles = ctx.settings_of(Path(project.path)).roles
    turn_from, turn_to = (0, session.turns) if ctx.input.get("force") else session.next_turns

    @cache
    def windows(max_tokens: int, overlap_tokens: int) -> list[Window]:
        turns = each_turn(ctx.store, session, turn_from, turn_to)
        return cut(turns, max_tokens=max_tokens, overlap_tokens=overlap_tokens)

    max_tokens, overlap_tokens = _sizes(roles.extract)
    extract = windows(max_tokens, overlap_tokens)
    return SessionPlan(
        key=ids.derived(session.stream, length=8),
        stream=session.stream,
        session_id=session.session_id,
        agent=session.agent,
        project_id=project.project_id,
        turn_from=turn_from,
        turn_to=turn_to,
        windows=len(extract),
        window_tokens=max_tokens,
        overlap_tokens=overlap_tokens,
        title=session.title or "",
        extract=extract,
        summarize=windows(*_sizes(roles.summarize)),
    )


def scheduled(job_id: str, ready: Ready, plan: SessionPlan) -> Effect:
    """The log's word for it. Raises ConflictError on commit when somebody else has taken the session meanwhile."""
    event = SessionScheduled(job_id, plan.project_id, plan.turn_from, plan.turn_to)
    return Effect(plan.stream, [event], ready.version)


def _left_because(
    params: Mapping[str, Any], session: Session, project_id: str | None, goes_on: Callable[[str], bool]
) -> str | None:
    if params.get("streams") and session.stream not in params["streams"]:
        return "another session"
    if params.get("agents") and session.agent not in params["agents"]:
        return "another agent"
    if params.get("session_id") and not session.session_id.startswith(params["session_id"]):
        return "another session"
    if not (params.get("since_ms") or 0) <= (session.last_ms or 0) <= (params.get("until_ms") or 1 << 62):
        return "outside the window"
    if project_id is None:
        return "no registered project"
    if session.taken_by and goes_on(session.taken_by):
        return "another job works on it"
    return None


def _sizes(role: Role) -> tuple[int, int]:
    return role.max_window_tokens, role.window_overlap_tokens
