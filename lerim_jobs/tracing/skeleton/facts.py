"""What the skeleton's spans say about themselves: attributes, status and events, read from the log.

Numbers and names only; error messages are content and stay out when the job was asked to keep content out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lerim_jobs.clock import iso
from lerim_jobs.jobs.attempts import Attempt, Stage, Usage
from lerim_jobs.jobs.job import Job
from lerim_jobs.kinds.kind import project_of, session_of
from lerim_jobs.log.events import JobRequested, StageQuarantined, StageSkipped
from lerim_jobs.tracing import names
from lerim_jobs.tracing.content import REDACTED, mask, redacted
from lerim_jobs.tracing.skeleton.record import SpanEvent, SpanStatus

__all__ = ["failure", "input_of", "job_error", "note", "of_attempt", "of_group", "of_job", "status", "summary", "where"]

_NO_FAILURE = {"ok", "handed_back", "parked", "cancelled"}
_MAX_NUMBERS = 48
_MAX_ISO_MS = 253_402_300_799_999
_SUMMARY_COUNTS = ("added", "updated", "merged", "archived")


def of_job(job: Job, request: JobRequested) -> dict[str, Any]:
    """The root's attributes: what was asked, the counts of the result, and sums over all model calls."""
    found: dict[str, Any] = {
        names.OPERATION: "invoke_workflow",
        names.AGENT_NAME: request.kind,
        **_about(job, request),
        names.REQUESTED_BY: request.requested_by,
        names.HOST: request.host,
        names.STAGES: len(job.stages),
        **of_usage(job.usage),
    }
    if job.finished:
        found[names.JOB_STATUS] = job.finished.status
        found.update(numbers(names.RESULT, job.finished.result))
        found[names.SUMMARY] = summary(request, job)
    return found


def of_group(job: Job, request: JobRequested, stages: Sequence[Stage]) -> dict[str, Any]:
    """How many stages the group has, and the counts of their outputs added up."""
    found: dict[str, Any] = {**_about(job, request), names.STAGES: len(stages)}
    for stage in stages:
        for attempt in stage.attempts.values():
            for key, value in numbers(names.OUTPUT, attempt.output).items():
                if not isinstance(value, bool):
                    found[key] = found.get(key, 0) + value
    return found


def of_attempt(job: Job, request: JobRequested, stage: Stage, attempt: Attempt) -> dict[str, Any]:
    """Where and how the attempt ran, what it paid for, and the counts of its output."""
    found = {
        **where(job, request, attempt),
        names.MESSAGING_SYSTEM: "dramatiq",
        names.MESSAGING_OPERATION: "process",
        names.WORKER: attempt.worker,
        names.QUEUE_WAIT_MS: attempt.started_ms - attempt.ready_ms,
        **of_usage(attempt.usage),
        **numbers(names.OUTPUT, attempt.output),
    }
    if stage.requested:
        found[names.MESSAGING_QUEUE] = stage.requested.queue
        found.update(_subject(stage.requested.input))
        found[names.INPUT] = input_of(stage)
    if attempt.outcome:
        found[names.OUTCOME] = attempt.outcome
    if attempt.outcome == "worker_lost":
        found[names.SYNTHETIC] = True
    if kind := _error_type(attempt):
        found[names.ERROR_TYPE] = kind
    return found


def where(job: Job, request: JobRequested, attempt: Attempt) -> dict[str, Any]:
    """Stage and attempt, as every span of the attempt has them."""
    window = names.window_of(attempt.stage)
    found = {**_about(job, request), names.STAGE: attempt.stage, names.ATTEMPT: attempt.number}
    return found if window is None else {**found, names.WINDOW: window}


def of_usage(usage: Usage) -> dict[str, Any]:
    """Sums over model calls, under names that no backend adds up a second time; nothing when nothing was called."""
    if not (usage.calls or usage.failed_calls):
        return {}
    found: dict[str, Any] = {
        names.MODEL_CALLS: usage.calls,
        names.FAILED_CALLS: usage.failed_calls,
        names.FALLBACKS: usage.fallbacks,
        names.TOKENS_IN: usage.tokens_in,
        names.TOKENS_OUT: usage.tokens_out,
        names.UNPRICED_CALLS: usage.unpriced_calls,
    }
    if usage.calls > usage.unpriced_calls:
        found[names.COST_USD] = usage.cost_usd
    return found


def status(request: JobRequested, attempt: Attempt) -> tuple[SpanStatus, str]:
    """ERROR for every attempt that failed or was lost; unset for all others, as conventions ask."""
    if attempt.outcome is None or attempt.outcome in _NO_FAILURE:
        return "unset", ""
    if attempt.failed is None:
        return "error", "WorkerLost: ended without a word"
    message = mask(attempt.failed.message or attempt.failed.detail) if request.include_content else ""
    return "error", f"{attempt.failed.error_type}: {message}" if message else attempt.failed.error_type


def failure(request: JobRequested, stage: Stage, attempt: Attempt, at_ns: int) -> list[SpanEvent]:
    """The attempt's exception, with what it was working on, and the retry it led to."""
    failed = attempt.failed
    if failed is None:
        return []
    found: dict[str, Any] = {"exception.type": failed.error_type, "lerim.code": failed.code}
    if said := failed.message or failed.detail or (REDACTED if failed.code == "bug" else ""):
        found["exception.message"] = redacted(mask(said), request.include_content)
    found[names.INPUT] = input_of(stage)
    if failed.frames:
        found["exception.stacktrace"] = "\n".join(failed.frames)
    events = [SpanEvent("exception", at_ns, found)] if attempt.outcome not in _NO_FAILURE else []
    if failed.retry_at_ms is not None:
        delay_ms = max(0, failed.retry_at_ms - (attempt.ended_ms or failed.retry_at_ms))
        when = {names.RETRY_AT: _iso(failed.retry_at_ms), names.RETRY_DELAY_MS: delay_ms}
        events.append(SpanEvent("retry", at_ns, {**when, "lerim.code": failed.code}))
    return events


def note(request: JobRequested, stage: Stage, event: StageQuarantined | StageSkipped) -> tuple[str, dict[str, Any]]:
    """Name and attributes of the event for a stage that was given up or never ran."""
    if isinstance(event, StageSkipped):
        return "stage skipped", {names.STAGE: event.stage, "lerim.reason": event.reason}
    about = {names.STAGE: event.stage, names.ATTEMPT: event.attempts, "lerim.reason": _reason(request, stage, event)}
    return "stage quarantined", about


def job_error(job: Job, request: JobRequested) -> str:
    """The status text of a failed job's root."""
    error = job.finished.error if job.finished else None
    return str(redacted(mask(error or "failed"), request.include_content))


def summary(request: JobRequested, job: Job) -> str:
    """`Sync completed: 8 added, 4 skipped`, from the job's result; `Sync failed` and the like without counts."""
    if job.finished is None:
        return ""
    done = job.finished
    verb = {"succeeded": "completed", "partial": "partly completed"}.get(done.status, done.status)
    counts = done.result.get("memories")
    if not isinstance(counts, Mapping):
        return f"{request.kind.capitalize()} {verb}"
    said = [f"{_count(counts, key)} {key}" for key in _SUMMARY_COUNTS if _count(counts, key) or key == "added"]
    skipped = _count(counts, "unchanged") + _count(counts, "rejected")
    return f"{request.kind.capitalize()} {verb}: {', '.join([*said, f'{skipped} skipped'])}"


def numbers(prefix: str, data: Mapping[str, Any]) -> dict[str, int | float | bool]:
    """The numbers of a mapping and of the mappings right inside it, with dotted keys: counts, never content."""
    pairs = sorted(_numbers(prefix, data, depth=2), key=lambda pair: pair[0])
    return dict(pairs[:_MAX_NUMBERS])


def _subject(given: Mapping[str, Any]) -> dict[str, str]:
    """Which coding session and project a stage's input is about; a session stage has both under `session`."""
    asked = {names.CONVERSATION_ID: session_of(given).get("session_id"), names.PROJECT: project_of(given)}
    return {key: value for key, value in asked.items() if isinstance(value, str)}


def input_of(stage: Stage) -> str:
    """A reference to what the stage works on, never the thing itself: a session's turns, a window, a project."""
    given = stage.requested.input if stage.requested else {}
    said = []
    if session := session_of(given):
        said.append(f"{session.get('stream')} turns {session.get('turn_from')} to {session.get('turn_to')}")
    if isinstance(window := given.get("window"), int):
        said.append(f"window {window}")
    if isinstance(project := given.get("project_id"), str):
        said.append(f"project {project}")
    return ", ".join(said) or "the job's parameters"


def _about(job: Job, request: JobRequested) -> dict[str, Any]:
    return {names.JOB_ID: job.job_id, names.JOB_KIND: request.kind}


def _numbers(prefix: str, data: Mapping[str, Any], *, depth: int) -> Iterator[tuple[str, int | float | bool]]:
    for key, value in data.items():
        if isinstance(value, int | float) and abs(value) < 2**53:
            yield f"{prefix}.{key}", value
        elif isinstance(value, Mapping) and depth > 1:
            yield from _numbers(f"{prefix}.{key}", value, depth=depth - 1)
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            yield from _numbers(f"{prefix}.{key}", _kinds(key, value), depth=1)


def _kinds(key: str, things: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many of a list: candidates by decision and learning, everything else in all."""
    if key != "candidates":
        return {"total": len(things)}
    return dict(Counter("decision" if one.get("kind") == "decision" else "learning" for one in things))


def _count(counts: Mapping[str, Any], key: str) -> int:
    value = counts.get(key)
    return value if isinstance(value, int) else 0


def _error_type(attempt: Attempt) -> str | None:
    if attempt.outcome is None or attempt.outcome in _NO_FAILURE:
        return None
    return attempt.failed.error_type if attempt.failed else "WorkerLost"


def _reason(request: JobRequested, stage: Stage, event: StageQuarantined) -> str:
    """The reason repeats the last error's message when there was one, and a message is content."""
    last = stage.in_order()[-1:]
    failed = last[0].failed if last else None
    if request.include_content or failed is None:
        return mask(event.reason)
    return f"{failed.error_type}: {redacted(event.reason, False)}"


def _iso(at_ms: int) -> str:
    return iso(min(max(at_ms, 0), _MAX_ISO_MS)) or ""
