"""Which sessions index takes for extraction, and in which windows: decided on sessions as the log has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from lerim_jobs import ids
from lerim_jobs.config import Role, Settings
from lerim_jobs.errors import ConfigError
from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.kinds.sync import WRONG_SETTINGS, SessionPlan
from lerim_jobs.log.events import SessionScheduled
from lerim_jobs.log.projection import find, fold_each
from lerim_jobs.projects import Project
from lerim_jobs.providers import resolve
from lerim_jobs.sessions.projects import Folders
from lerim_jobs.sessions.session import SESSIONS, Session
from lerim_jobs.sessions.stored import each_turn
from lerim_jobs.sessions.windows import Window, cut
from workers.stage import StageContext
from workers.stages.settling import NOT_SETTLED, full_windows_end, is_settled

__all__ = ["Ready", "plan_sessions", "ready_sessions", "scheduled"]

_NO_PROJECT = "no registered project"


class Ready(msgspec.Struct, frozen=True, order=True):
    """A session that may be extracted now, as it was at `version`; the oldest is the least. `growing`: only its full windows."""

    last_ms: int
    stream: str
    version: int
    project_id: str
    growing: bool = False


def ready_sessions(
    ctx: StageContext, known: Mapping[str, Project], wrong: Collection[str]
) -> tuple[list[Ready], Counter[str], dict[str, str]]:
    """Sessions to extract now, the oldest first; why others with waiting turns are left; and folders that turned out to be a
    project's, with its id. Of `wrong` are the ids of projects whose own settings file is wrong.
    """
    places: dict[str, str] = {}
    left: Counter[str] = Counter()
    ready: list[Ready] = []
    belonging = cache(Folders(known.values()).belonging)
    goes_on = cache(ctx.store.has_stages)
    settle_ms = ctx.input.get("settle_ms") or 0
    by_hand = not settle_ms or any(ctx.input.get(name) for name in ("streams", "session_id", "force"))
    for session in fold_each(ctx.store, SESSIONS):
        if not (session.waiting_turns or (ctx.input.get("force") and session.standing_turns)):
            continue
        found = belonging(session.cwd)
        project_id = found.project_id if found else None
        reason = _left_because(ctx.input, session, project_id, goes_on)
        if not session.human_prompts:
            left.update(["nobody spoke"] if reason in (None, _NO_PROJECT) else [])
        elif reason:
            left[reason] += 1
        elif project_id in wrong:
            left[WRONG_SETTINGS] += 1
        elif found and project_id:
            if found.place:
                places.setdefault(found.place, project_id)
            growing = not (by_hand or is_settled(session, now_ms=ctx.now_ms, settle_ms=settle_ms))
            ready.append(Ready(session.last_ms or 0, session.stream, session.version, project_id, growing))
    return sorted(ready), left, places


def plan_sessions(
    ctx: StageContext, ready: Sequence[Ready], known: Mapping[str, Project], left: Counter[str]
) -> list[tuple[Ready, SessionPlan]]:
    """Plans of as many sessions as one run may take, the oldest first. Counts in `left` why others have none."""
    limit = ctx.input.get("max_sessions") or len(ready)
    planned: list[tuple[Ready, SessionPlan]] = []
    for one in ready:
        if len(planned) == limit and not one.growing:
            left["over the limit of sessions per run"] += 1
        elif plan := _plan(ctx, one, known[one.project_id]) if len(planned) < limit else None:
            planned.append((one, plan))
        else:
            left[NOT_SETTLED] += 1
    return planned


def _plan(ctx: StageContext, ready: Ready, project: Project) -> SessionPlan | None:
    """What the stages of the session are told of it; None for one that grows and has no full window yet."""
    session = find(ctx.store, SESSIONS, ready.stream)
    assert session is not None
    settings = ctx.settings_of(Path(project.path))
    roles = settings.roles
    turn_from, turn_to = (0, session.turns) if ctx.input.get("force") else session.next_turns

    @cache
    def windows(max_tokens: int, overlap_tokens: int, turn_to: int) -> list[Window]:
        turns = each_turn(ctx.store, session, turn_from, turn_to)
        return cut(turns, max_tokens=max_tokens, overlap_tokens=overlap_tokens, cwd=session.cwd or "")

    max_tokens, overlap_tokens = _sizes(roles.extract)
    extract = windows(max_tokens, overlap_tokens, turn_to)
    if ready.growing:
        end = full_windows_end(extract)
        if end is None:
            return None
        turn_to = end
        extract = windows(max_tokens, overlap_tokens, turn_to)
    summarize = windows(*_sizes(roles.summarize), turn_to)
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
        summarize=summarize,
        at_once=len(extract) == len(summarize) == 1 and _same_model(settings, ctx.env),
        cwd=session.cwd or "",
        branch=session.branch or "",
        last_ms=session.last_ms,
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
        return _NO_PROJECT
    if session.taken_by and goes_on(session.taken_by):
        return "another job works on it"
    return None


def _sizes(role: Role) -> tuple[int, int]:
    return role.max_window_tokens, role.window_overlap_tokens


def _same_model(settings: Settings, env: Mapping[str, str]) -> bool:
    """Whether one call can be both extraction and summary: what is said of one role holds for the other, sizes aside."""
    try:
        choices = resolve(settings, env)
    except ConfigError:
        return False  # the stages will say it
    one, other = choices["extract"], choices["summarize"]
    roles = settings.roles
    return (one.model, one.fallbacks, roles.extract.thinking) == (
        other.model,
        other.fallbacks,
        roles.summarize.thinking,
    )
