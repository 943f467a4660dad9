"""The trace's skeleton, read from the job's event stream: root, groups, queue waits and attempts.

Every id is derived from the trace id, so a worker knows its attempt's span id before any span exists, and whoever
closes the trace makes the same spans again. A killed worker, a retry or a lost flush cannot leave a gap: what is
emitted does not depend on what some process still had in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lerim_jobs import ids
from lerim_jobs.jobs.attempts import Attempt, Stage
from lerim_jobs.jobs.job import Job, fold
from lerim_jobs.kinds.kind import family
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import JobRequested
from lerim_jobs.log.store import StageRow
from lerim_jobs.tracing import names
from lerim_jobs.tracing.skeleton import facts
from lerim_jobs.tracing.skeleton.decisions import decisions
from lerim_jobs.tracing.skeleton.record import SpanEvent, SpanLink, SpanRecord

__all__ = ["attempt_span_id", "group_span_id", "resent", "skeleton", "started"]

_MS = 1_000_000


def attempt_span_id(trace_id: str, stage: str, attempt: int) -> str:
    """The span id of one attempt: the parent of everything a worker records while it runs."""
    return ids.span_id(trace_id, "attempt", stage, str(attempt))


def group_span_id(trace_id: str, name: str) -> str:
    """The span id of the group around a stage family."""
    return ids.span_id(trace_id, "group", name)


def skeleton(events: Iterable[Recorded]) -> list[SpanRecord]:
    """The spans of a job stream, parents first; empty when the stream does not begin a job. Never raises.

    Spans of what is still going on have `end_ns` None. Children never begin before the root, whatever the clocks say.
    """
    job = fold(events)
    if job is None:
        return []
    spans = [_root(job, job.request)]
    groups: dict[str, list[Stage]] = {}
    for stage in job.stages.values():
        if names.group_title(stage.name):
            groups.setdefault(family(stage.name), []).append(stage)
    spans += [_group(job, job.request, stages) for stages in groups.values()]
    for stage in job.stages.values():
        spans += _attempts(job, job.request, stage)
    return spans


def started(request: JobRequested, job_id: str) -> SpanRecord:
    """The marker a job's first attempt sends: without length, below the root, at the root's start."""
    return SpanRecord(
        trace_id=request.trace_id,
        span_id=ids.span_id(request.trace_id, "started"),
        parent_span_id=request.root_span_id,
        name=f"{names.root_title(request.kind)} {names.STARTED}",
        kind="internal",
        start_ns=request.start_ns,
        end_ns=request.start_ns,
        attributes={names.JOB_ID: job_id, names.JOB_KIND: request.kind},
    )


def resent(request: JobRequested, row: StageRow, at_ns: int) -> SpanRecord:
    """The mark of a sweep that sent a stage's hint again: what it was waiting for had been lost."""
    at_ns = max(at_ns, request.start_ns)
    reason = "its worker died or went silent" if row.state == "running" else "nobody took it"
    return SpanRecord(
        trace_id=request.trace_id,
        span_id=ids.span_id(request.trace_id, "resent", row.stage, str(row.attempt), str(at_ns)),
        parent_span_id=request.root_span_id,
        name=names.RESENT,
        kind="internal",
        start_ns=at_ns,
        end_ns=at_ns,
        attributes={
            names.JOB_ID: row.job_id,
            names.JOB_KIND: request.kind,
            names.STAGE: row.stage,
            names.MESSAGING_QUEUE: row.queue,
            names.REASON: reason,
        },
    )


def _root(job: Job, request: JobRequested) -> SpanRecord:
    done = job.finished
    failed = done is not None and done.status == "failed"
    loose = [stage for stage in job.stages.values() if not names.group_title(stage.name)]
    return SpanRecord(
        trace_id=request.trace_id,
        span_id=request.root_span_id,
        parent_span_id=None,
        name=names.root_title(request.kind),
        kind="internal",
        start_ns=request.start_ns,
        end_ns=_root_end_ns(job, request),
        status="error" if failed else "unset",
        status_text=facts.job_error(job, request) if failed else "",
        attributes=facts.of_job(job, request),
        events=_notes(job, request, loose),
    )


def _group(job: Job, request: JobRequested, stages: Sequence[Stage]) -> SpanRecord:
    name = stages[0].name
    started = [at for at in (stage.ready_ms() for stage in stages) if at is not None]
    settled = [stage.settled_ms() for stage in stages]
    ends = [at for at in settled if at is not None]
    last_ms = max(ends) if len(ends) == len(settled) else job.finished_ms
    dead = sum(stage.quarantined is not None for stage in stages)
    start_ns = _inside(job, request, min(started) if started else None)
    return SpanRecord(
        trace_id=request.trace_id,
        span_id=group_span_id(request.trace_id, family(name)),
        parent_span_id=request.root_span_id,
        name=names.group_title(name) or name,
        kind="internal",
        start_ns=start_ns,
        end_ns=None if last_ms is None else max(start_ns, _inside(job, request, last_ms)),
        status="error" if dead else "unset",
        status_text=f"{dead} of {len(stages)} given up" if dead else "",
        attributes=facts.of_group(job, request, stages),
        events=_notes(job, request, stages),
    )


def _attempts(job: Job, request: JobRequested, stage: Stage) -> list[SpanRecord]:
    spans: list[SpanRecord] = []
    before: Attempt | None = None
    for attempt in stage.in_order():
        wait_from_ms = max(attempt.ready_ms, (before and before.ended_ms) or 0)
        parent = _parent(request, stage.name)
        if wait_from_ms < attempt.started_ms:
            spans.append(_wait(job, request, attempt, wait_from_ms, parent))
        links = _links(job, request, stage, before)
        spans.append(_attempt(job, request, stage, attempt, parent, links))
        if attempt.outcome == "ok" and (end_ns := spans[-1].end_ns):
            about = facts.where(job, request, attempt)
            spans += decisions(request, attempt, parent_span_id=spans[-1].span_id, at_ns=end_ns, about=about)
        before = attempt
    return spans


def _attempt(
    job: Job, request: JobRequested, stage: Stage, attempt: Attempt, parent: str, links: list[SpanLink]
) -> SpanRecord:
    start_ns = _inside(job, request, attempt.started_ms)
    end_ns = None if attempt.ended_ms is None else max(start_ns, _inside(job, request, attempt.ended_ms))
    status, text = facts.status(request, attempt)
    return SpanRecord(
        trace_id=request.trace_id,
        span_id=attempt_span_id(request.trace_id, attempt.stage, attempt.number),
        parent_span_id=parent,
        name=names.stage_title(attempt.stage),
        kind="consumer",
        start_ns=start_ns,
        end_ns=end_ns,
        status=status,
        status_text=text,
        attributes=facts.of_attempt(job, request, stage, attempt),
        events=facts.failure(request, stage, attempt, end_ns or start_ns),
        links=links,
    )


def _wait(job: Job, request: JobRequested, attempt: Attempt, from_ms: int, parent: str) -> SpanRecord:
    """A sibling right before its attempt: as a child it would begin before its parent, and viewers clip that."""
    start_ns = _inside(job, request, from_ms)
    return SpanRecord(
        trace_id=request.trace_id,
        span_id=ids.span_id(request.trace_id, "wait", attempt.stage, str(attempt.number)),
        parent_span_id=parent,
        name=names.QUEUE_WAIT,
        kind="internal",
        start_ns=start_ns,
        end_ns=max(start_ns, _inside(job, request, attempt.started_ms)),
        attributes=facts.where(job, request, attempt),
    )


def _links(job: Job, request: JobRequested, stage: Stage, before: Attempt | None) -> list[SpanLink]:
    if before:
        return [_link(request, before, "previous_attempt")]
    wanted = [*stage.requested.needs, *stage.requested.after] if stage.requested else []
    causes = [job.stages[name].in_order()[-1] for name in wanted if name in job.stages and job.stages[name].attempts]
    return [_link(request, cause, "fan_in") for cause in causes]


def _link(request: JobRequested, to: Attempt, why: str) -> SpanLink:
    return SpanLink(request.trace_id, attempt_span_id(request.trace_id, to.stage, to.number), {names.LINK: why})


def _notes(job: Job, request: JobRequested, stages: Iterable[Stage]) -> list[SpanEvent]:
    """Stages that were given up or never ran, noted on the span they would have stood under."""
    events = []
    for stage in stages:
        for event, at_ms in stage.noted:
            name, attributes = facts.note(request, stage, event)
            events.append(SpanEvent(name, _inside(job, request, at_ms), attributes))
    return sorted(events, key=lambda event: event.at_ns)


def _parent(request: JobRequested, stage: str) -> str:
    grouped = names.group_title(stage)
    return group_span_id(request.trace_id, family(stage)) if grouped else request.root_span_id


def _root_end_ns(job: Job, request: JobRequested) -> int | None:
    return None if job.finished_ms is None else max(request.start_ns, job.finished_ms * _MS)


def _inside(job: Job, request: JobRequested, at_ms: int | None) -> int:
    """Nanoseconds, moved into the root's bounds: hosts' clocks differ, and the log's times are whole milliseconds."""
    at_ns = request.start_ns if at_ms is None else max(request.start_ns, at_ms * _MS)
    end_ns = _root_end_ns(job, request)
    return at_ns if end_ns is None else min(at_ns, end_ns)
