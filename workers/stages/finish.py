"""finish: count what became of the job and end it.

Reads   the outputs of all stages and the job's model calls
Writes  JobFinished with the result shown to the user; for sessions that did not make it, SessionQuarantined
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lerim_jobs.clock import now_ms
from lerim_jobs.jobs.claims import Effect, End
from lerim_jobs.jobs.job import Job, Stage, memory_counts
from lerim_jobs.jobs.line import JOBS
from lerim_jobs.log.events import JobStatus, SessionQuarantined, SessionReleased
from lerim_jobs.log.projection import find
from lerim_jobs.sessions.session import SESSIONS
from workers.stage import Outcome, StageContext

__all__ = ["run"]

_SETTINGS_TO_BLAME = {"wrong_key", "model_missing", "config"}
_FILE_COUNTS = ("written", "removed", "added", "edited", "archived", "restored", "moved", "deleted", "conflicts")


def run(ctx: StageContext) -> Outcome:
    """Always runs last, whatever happened before."""
    job = ctx.job
    lost = [stage for stage in job.stages.values() if stage.state in ("dead", "skipped")]
    quarantined = _quarantined(job)
    result = {
        **_model_counts(ctx),
        "files": _files(job),
        "memories": memory_counts(job),
        "duration_s": round((now_ms() - job.requested_ms) / 1000, 3),
        "lost_stages": [{"stage": stage.request.stage, "reason": stage.reason} for stage in lost],
        "dry_run": bool(job.request.params.get("dry_run")),
    }
    if job.request.kind == "sync":
        result |= _sync_counts(job, quarantined)
    if job.request.kind == "maintain":
        result |= _maintain_counts(job)
    if job.request.kind == "ask":
        result |= _answer(job)
    if job.request.kind == "check":
        result["roles"] = {stage.request.input["role"]: stage.output for stage in job.family("check") if stage.output}
    effects = [effect for stream, stage in quarantined.items() if (effect := _give_up(ctx, stream, stage))]
    return Outcome({}, effects, end=End(_status(job, lost), result, _error(lost)))


def _files(job: Job) -> dict[str, Any]:
    """What publishing did, over all projects, and what a person should look at."""
    published = [stage.output for stage in job.family("publish")]
    counts = {name: sum(output.get(name, 0) for output in published) for name in _FILE_COUNTS}
    return {**counts, "problems": [problem for output in published for problem in output.get("problems", ())]}


def _status(job: Job, lost: list[Stage]) -> JobStatus:
    if job.request.kind == "check":
        return "succeeded" if all(stage.output.get("ok") for stage in job.family("check")) else "failed"
    if not lost:
        return "succeeded"
    names = {stage.family for stage in lost}
    if names & {"index", "answer"}:
        return "failed"
    done = [stage for stage in job.stages.values() if stage.state == "done" and stage.family in ("integrate", "curate")]
    return "partial" if done or job.request.kind == "sync" else "failed"


def _error(lost: list[Stage]) -> str | None:
    dead = [stage for stage in lost if stage.state == "dead"]
    return f"{dead[0].request.stage}: {dead[0].reason}" if dead else None


def _model_counts(ctx: StageContext) -> dict[str, Any]:
    line = find(ctx.store, JOBS, ctx.job.job_id)
    return {
        "model_calls": line.model_calls if line else 0,
        "replayed_calls": _total(ctx.job.stages.values(), "replayed"),
        "tokens_in": line.tokens_in if line else 0,
        "tokens_out": line.tokens_out if line else 0,
        "cost_usd": line.cost_usd if line else 0.0,
        "unpriced_calls": line.unpriced_calls if line else 0,
    }


def _sync_counts(job: Job, quarantined: dict[str, Stage]) -> dict[str, Any]:
    index = job.stages["index"].output
    sessions = {name: index.get(name, 0) for name in ("found", "indexed", "unchanged", "skipped")}
    extracts = job.family("extract")
    return {
        "sessions": {**sessions, "quarantined": len(quarantined)},
        "skipped_reasons": index.get("skipped_reasons", {}),
        "left": index.get("left", {}),
        "taken": index.get("taken", 0),
        "windows": index.get("windows", 0),
        "candidates": sum(len(stage.output.get("candidates", ())) for stage in extracts),
        "dropped": sum(len(stage.output.get("dropped", ())) for stage in extracts),
        **({"estimate": index["estimate"]} if "estimate" in index else {}),
        "proposals": [line for stage in job.family("integrate") for line in stage.output.get("proposals", ())],
    }


def _maintain_counts(job: Job) -> dict[str, Any]:
    done = job.family("curate")
    plan = [
        {"project": stage.output.get("project"), **line}
        for stage in done
        for line in (*map(_faded, stage.output.get("decayed", ())), *stage.output.get("proposals", ()))
    ]
    names = ("looked_at", "seen_before", "left_for_later", "batches")
    return {**{name: _total(done, name) for name in names}, "proposals": plan}


def _faded(decayed: dict[str, Any]) -> dict[str, Any]:
    return {"action": "decay", **{key: decayed[key] for key in ("memory_id", "title", "reason")}}


def _answer(job: Job) -> dict[str, Any]:
    output = job.stages["answer"].output
    return {"answer": output.get("answer"), "citations": output.get("citations", [])}


def _quarantined(job: Job) -> dict[str, Stage]:
    """Session stream -> the stage that was given up, for sessions whose integration never happened."""
    lost: dict[str, Stage] = {}
    for stage in job.family("integrate"):
        if stage.state in ("dead", "skipped"):
            dead = [job.stages[name] for name in stage.request.needs if job.stages[name].state == "dead"]
            lost[stage.request.input["session"]["stream"]] = dead[0] if dead else stage
    return lost


def _give_up(ctx: StageContext, stream: str, stage: Stage) -> Effect | None:
    """Mark the turns this job had taken as dead; a dry run had taken none.

    What only the settings are to blame for is not held against a session: the next sync takes it again.
    """
    session = find(ctx.store, SESSIONS, stream)
    if session is None or session.taken_by != ctx.job.job_id:
        return None
    if ctx.job.request.params.get("dry_run") or stage.code in _SETTINGS_TO_BLAME:
        return Effect(stream, [SessionReleased(ctx.job.job_id, session.extracted_to)], session.version)
    event = SessionQuarantined(ctx.job.job_id, session.taken_to, stage.request.stage, stage.reason)
    return Effect(stream, [event], session.version)


def _total(stages: Iterable[Stage], name: str) -> int:
    return sum(stage.output.get(name, 0) for stage in stages if isinstance(stage.output.get(name, 0), int))
