"""What a whole trace is: one root, no orphan, no span twice, in what was really recorded and sent."""

from __future__ import annotations

from contextlib import suppress

from lerim_jobs.log.events import JobFinished, JobRequested
from lerim_jobs.tracing.local.store import SpanStore
from lerim_jobs.tracing.local.tree import TraceHealth, check
from lerim_jobs.tracing.skeleton.record import SpanRecord
from tests.e2e.world import World
from tests.waiting import until

__all__ = ["FACTS", "WHOLE", "chats", "closed", "finished", "named", "session_id", "whole_trace"]

WHOLE = TraceHealth(roots=1, orphans=0, duplicates=0)
FACTS = [f"REMEMBER: fact {n} is kept. {'Some words about the shop. ' * 30}" for n in range(6)]


def session_id(number: int) -> str:
    """A session's id in these tests."""
    return f"dddddddd-0000-4000-8000-{number:012d}"


def finished(world: World, job_id: str) -> JobFinished | None:
    """How the job ended, None while it has not."""
    return next((row.event for row in world.events(job_id) if isinstance(row.event, JobFinished)), None)


def closed(world: World, job_id: str) -> bool:
    """Whether the job's reserved spans were emitted."""
    return any(row.type == "TraceClosed" for row in world.events(job_id))


def named(spans: list[SpanRecord], name: str) -> list[SpanRecord]:
    """Spans whose name begins so."""
    return [span for span in spans if span.name.startswith(name)]


def chats(spans: list[SpanRecord]) -> list[SpanRecord]:
    """Model calls that were answered."""
    return [span for span in spans if span.attributes.get("gen_ai.operation.name") == "chat" and span.status != "error"]


def whole_trace(world: World, job_id: str) -> list[SpanRecord]:
    """The job's recorded spans; fails unless they are one tree.

    Read from the span store as the processes wrote it, not from `lerim trace show`, which would mend gaps.
    """
    job = next(one for one in world.json("jobs", "list", "--limit", "100") if one["job_id"] == job_id)
    store = SpanStore(world.home.traces)
    with suppress(AssertionError):
        # Another worker than the one that closed the trace may still have spans in its hands, for 0.2 s.
        until(lambda: check(store.of_trace(job["trace_id"])).ok, 5)
    spans = store.of_trace(job["trace_id"])
    ids = {span.span_id for span in spans}
    orphans = [span.name for span in spans if span.parent_span_id and span.parent_span_id not in ids]
    health = check(spans)
    assert (health.roots, orphans, health.duplicates) == (1, [], 0), [span.name for span in spans]
    root = next(span for span in spans if span.parent_span_id is None)
    events = {row.type: row for row in world.events(job_id)}
    assert root.start_ns == events["JobRequested"].as_(JobRequested).start_ns
    assert root.end_ns == events["JobFinished"].at_ms * 1_000_000
    shown = world.trace(job_id)
    assert {span["span_id"] for span in shown} == ids
    return spans
