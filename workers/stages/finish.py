"""finish: count what became of the job and end it.

Reads   the sums that commits have added up, the stages that were lost, and the outputs its kind's result is made of
Writes  JobFinished with the result shown to the user; for sessions that did not make it, SessionQuarantined
"""

from __future__ import annotations

from typing import Any

from lerim_jobs.clock import now_ms
from lerim_jobs.jobs import sums
from lerim_jobs.jobs.ending import Ended
from lerim_jobs.jobs.line import JOBS
from lerim_jobs.jobs.outcomes import Effect, End
from lerim_jobs.kinds import kind_of, stage_of
from lerim_jobs.kinds.kind import LostStage, session_of
from lerim_jobs.log.events import SessionQuarantined, SessionReleased
from lerim_jobs.log.projection import find
from lerim_jobs.sessions.session import SESSIONS
from workers.stage import Outcome, StageContext

__all__ = ["run"]

_SETTINGS_TO_BLAME = {"wrong_key", "model_missing", "config"}


def run(ctx: StageContext) -> Outcome:
    """Always runs last, whatever happened before."""
    done = Ended(ctx.store, ctx.job_id, ctx.request)
    kind = kind_of(ctx.request.kind)
    result = {
        **_model_counts(ctx, done),
        "files": done.files(),
        "memories": sums.memory_counts(done.all_sums),
        "duration_s": round((now_ms() - ctx.request.start_ns // 1_000_000) / 1000, 3),
        "lost_stages": [{"stage": one.stage, "reason": one.reason} for one in done.lost],
        "dry_run": bool(ctx.request.params.get("dry_run")),
        **kind.result(done),
    }
    effects = [effect for one in done.lost if (effect := _give_up(ctx, one, done))]
    return Outcome({}, effects, end=End(kind.status(done), result, _error(done)))


def _error(done: Ended) -> str | None:
    return next((f"{one.stage}: {one.reason}" for one in done.lost if one.state == "dead"), None)


def _model_counts(ctx: StageContext, done: Ended) -> dict[str, Any]:
    line = find(ctx.store, JOBS, ctx.job_id)
    assert line is not None
    return {
        "model_calls": line.usage.calls,
        "replayed_calls": sums.total(done.all_sums, "replayed", done.all_sums),
        "tokens_in": line.usage.tokens_in,
        "tokens_out": line.usage.tokens_out,
        "cost_usd": line.usage.cost_usd,
        "unpriced_calls": line.usage.unpriced_calls,
    }


def _give_up(ctx: StageContext, lost: LostStage, done: Ended) -> Effect | None:
    """Mark the turns this job had taken as dead; a dry run had taken none.

    What only the settings are to blame for is not held against a session: the next sync takes it again.
    """
    stream = session_of(lost.input).get("stream")
    if not stage_of(lost.stage).settles_session or not stream:
        return None
    session = find(ctx.store, SESSIONS, stream)
    if session is None or session.taken_by != ctx.job_id:
        return None
    cause = next((one for one in done.lost if one.stage in lost.needs and one.state == "dead"), lost)
    if ctx.request.params.get("dry_run") or cause.code in _SETTINGS_TO_BLAME:
        return Effect(stream, [SessionReleased(ctx.job_id, session.extracted_to)], session.version)
    event = SessionQuarantined(ctx.job_id, session.taken_to, cause.stage, cause.reason)
    return Effect(stream, [event], session.version)
