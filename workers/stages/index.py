"""index: find new and grown sessions, store what they added, and take for extraction what belongs to a project.

Reads   the session files of this host, only their new bytes (none where `streams` names sessions to
        take again); the sessions and projects read models; how the memory files look
Writes  folders elsewhere that are a project's, when they are seen first;
        while it goes on, chunk by chunk: one SessionIndexed per new or grown file or part of a large one, and what was taken
        back of what it had before, with the memories that nothing else proves;
        then one SessionScheduled per session taken, the stages of each; a publish for
        projects whose files were edited by hand
Raises  ConfigError (unknown agent), ConflictError (a session was taken by another job meanwhile: decided again),
        ClaimLost
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lerim_jobs.errors import ConfigError
from lerim_jobs.jobs.outcomes import Effect
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.kinds.sync import SessionPlan, after_index
from lerim_jobs.log.events import ProjectPlaceSeen, SessionIndexed
from lerim_jobs.log.projection import find
from lerim_jobs.log.scan import scan
from lerim_jobs.memory.files.moved import is_gone, moved_to
from lerim_jobs.memory.files.survey import needs_publish
from lerim_jobs.memory.withdrawal import archived
from lerim_jobs.projects import Project, active_projects, project_stream
from lerim_jobs.sessions import discovery
from lerim_jobs.sessions.chunk import LIMITS, Chunk, Limits
from lerim_jobs.sessions.compaction import compact
from lerim_jobs.sessions.scan import Scan
from lerim_jobs.sessions.session import SESSIONS
from lerim_jobs.sessions.stored import each_turn
from lerim_jobs.sessions.tally import Tally
from lerim_jobs.sessions.windows import CHARS_PER_TOKEN
from workers.stage import Outcome, StageContext
from workers.stages.taking import plan_sessions, ready_sessions, scheduled

__all__ = ["run"]


def run(ctx: StageContext, limits: Limits = LIMITS) -> Outcome:
    """Scan, then plan the extraction of what is waiting."""
    tally = Tally()
    if not ctx.input.get("streams"):
        _scan(ctx, tally, limits)
    known = {key: project for key, project in active_projects(ctx.store).items() if project.host == ctx.host}
    wrong = _wrong(ctx, known.values())
    ready, left, places = ready_sessions(ctx, known, wrong)
    planned = plan_sessions(ctx, ready, known, left)
    plans = [plan for _, plan in planned]
    output = {
        **tally.counts(),
        "taken": len(plans),
        "windows": sum(plan.windows for plan in plans),
        "left": dict(sorted(left.items())),
    }
    if wrong:
        output["wrong"] = [{"name": known[key].name, "problem": problem} for key, problem in wrong.items()]
    if gone := [one for one in known.values() if is_gone(one)]:
        output["gone"] = [_gone(ctx, one) for one in gone]
    if ctx.input.get("estimate"):
        return Outcome({**output, "estimate": _estimate(ctx, plans)})
    touched: list[str] = []
    effects: list[Effect] = []
    if not ctx.input.get("dry_run"):
        touched = [key for key, one in known.items() if key not in wrong and needs_publish(ctx.store, one)]
        seen = [Effect(project_stream(key), [ProjectPlaceSeen(key, place)]) for place, key in places.items()]
        effects = [*seen, *(scheduled(ctx.job_id, *pair) for pair in planned)]
    stages = after_index(plans, host=ctx.host, params=ctx.input, touched=touched)
    return Outcome(output, effects, next_stages=stages)


def _wrong(ctx: StageContext, projects: Iterable[Project]) -> dict[str, str]:
    """Projects whose own settings file is wrong, and how: they are left alone, and stop no other."""
    found = {}
    for project in projects:
        try:
            ctx.settings_of(Path(project.path))
        except ConfigError as exc:
            found[project.project_id] = str(exc)
    return found


def _gone(ctx: StageContext, project: Project) -> dict[str, Any]:
    """A project whose folder is not there, and where it seems to be now."""
    now = moved_to(ctx.store, project)
    return {"name": project.name, "path": project.path, "moved_to": str(now) if now else None}


def _scan(ctx: StageContext, tally: Tally, limits: Limits) -> None:
    roots = discovery.roots(ctx.env, ctx.settings.agents)
    wanted = ctx.input.get("agents")
    found, unread = discovery.scan({agent: paths for agent, paths in roots.items() if not wanted or agent in wanted})
    for event in _earlier(ctx):
        tally.add(event)
    for problem in unread:
        tally.note(problem.path, problem.reason)

    def commit(chunk: Chunk) -> None:
        effects = [Effect(one.stream, one.events, one.expected) for one in chunk.appends]
        ctx.checkpoint([*effects, *archived(ctx.store, chunk.taken_back)], chunk.blobs)

    files = Scan(ctx.store, tally, commit, host=ctx.host, now_ms=ctx.now_ms, limits=limits)
    files.run(found, since_ms=ctx.input.get("since_ms") or 0)


def _earlier(ctx: StageContext) -> Iterator[SessionIndexed]:
    """What earlier attempts of this job have stored before they ended."""
    began = ctx.store.read(job_stream(ctx.job_id), limit=1)[0].position
    rows = scan(ctx.store, ("SessionIndexed",), after=began)
    return (row.as_(SessionIndexed) for row in rows if row.meta.get("job_id") == ctx.job_id)


def _estimate(ctx: StageContext, plans: Sequence[SessionPlan]) -> dict[str, Any]:
    from workers.models.estimate import Waiting, estimate

    waiting = [Waiting(_tokens(ctx, plan), plan.windows, plan.at_once) for plan in plans]
    return estimate(waiting, ctx.settings, ctx.env)


def _tokens(ctx: StageContext, plan: SessionPlan) -> int:
    session = find(ctx.store, SESSIONS, plan.stream)
    turns = each_turn(ctx.store, session, plan.turn_from, plan.turn_to) if session else ()
    return sum(int(len(turn.text) / CHARS_PER_TOKEN) for turn in compact(turns, plan.cwd))
