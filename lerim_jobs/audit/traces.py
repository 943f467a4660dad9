"""Split traces: a finished, sampled job whose spans are not one tree with one root, in what was really recorded."""

from __future__ import annotations

from lerim_jobs.audit.finding import Breach, Place, Zero
from lerim_jobs.jobs.settlement import UNCLOSED, job_stream
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import JobRequested
from lerim_jobs.log.scan import readable, scan
from lerim_jobs.tracing.local.store import SpanStore
from lerim_jobs.tracing.local.tree import check
from lerim_jobs.tracing.skeleton.record import SpanRecord
from lerim_jobs.tracing.skeleton.spans import skeleton

__all__ = ["split_traces"]


def split_traces(place: Place) -> Zero:
    """One job at a time. Spans that retention has removed are not missed; the log has the skeleton for ever."""
    spans = SpanStore(place.home.traces)
    breaches: list[Breach] = []
    traces = count = unclosed = 0
    for row in scan(place.store, ("JobFinished",)):
        job_id = row.stream.removeprefix("job-")
        events = list(readable(place.store.read(job_stream(job_id))))
        request = next((one.event for one in events if isinstance(one.event, JobRequested)), None)
        if request is None or not request.sampled:
            continue
        traces += 1
        recorded = spans.of_trace(request.trace_id)
        count += len(recorded)
        if any(one.type == "TraceClosed" for one in events):
            wrong = _wrong(events, recorded)
        elif place.store.doc(UNCLOSED, job_id) is not None and not place.workers_run:
            unclosed += 1
            continue
        else:
            wrong = "it ended and its trace was never closed"
        if wrong:
            breaches.append(Breach(job_id, wrong))
    spans.close()
    advice = "`lerim trace show JOB` draws it from the log and what is left"
    return Zero("split_traces", breaches, {"traces": traces, "spans": count}, advice, {"traces_to_close": unclosed})


def _wrong(events: list[Recorded], recorded: list[SpanRecord]) -> str:
    bones = skeleton(events)
    if not recorded:
        health = check(bones)
        return "" if health.ok else f"its skeleton has {health.roots} roots and {health.orphans} orphans"
    ids = {span.span_id for span in recorded}
    roots = [span for span in recorded if span.parent_span_id is None]
    orphans = sum(span.parent_span_id is not None and span.parent_span_id not in ids for span in recorded)
    if len(roots) == 1 and not orphans:
        kept, told = roots[0], bones[0]
        same = (kept.span_id, kept.start_ns, kept.end_ns) == (told.span_id, told.start_ns, told.end_ns)
        return "" if same else "its root does not last as long as the job"
    oldest = min(span.start_ns for span in recorded)
    if bones[0].span_id not in ids and all(bone.start_ns < oldest for bone in bones[:1]) and not roots:
        return ""  # retention removes the oldest spans first, the root before all
    return f"it has {len(roots)} roots and {orphans} spans without their parent"
