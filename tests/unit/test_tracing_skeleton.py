"""The skeleton is whole for every stream: one root, no orphan, no id twice, and says how each attempt ended."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lerim_jobs.log.codec import Recorded
from lerim_jobs.tracing.local.tree import TraceHealth, check
from lerim_jobs.tracing.skeleton.record import SpanRecord, to_json
from lerim_jobs.tracing.skeleton.spans import attempt_span_id, group_span_id, skeleton
from tests.job_streams import ROOT_ID, START_MS, TRACE_ID, JobStream

WHOLE = TraceHealth(roots=1, orphans=0, duplicates=0)
FIRST, SECOND = "extract:aabbccdd:0", "extract:aabbccdd:1"


def plain() -> JobStream:
    return (
        JobStream()
        .requested("index")
        .run("index", found=3, indexed=2)
        .requested(FIRST, input={"session": {"session_id": "s-1", "project_id": "p-1"}, "window": 0})
        .requested(SECOND)
        .requested("integrate:aabbccdd", needs=[FIRST, SECOND])
        .started(FIRST)
        .called(FIRST)
        .completed(FIRST, candidates={"decision": 2})
        .started(SECOND)
        .called(SECOND, cost_usd=None)
        .completed(SECOND, candidates={"decision": 1, "insight": 4})
        .run("integrate:aabbccdd")
        .requested("finish")
        .run("finish")
        .finished(memories={"added": 8, "updated": 0, "unchanged": 3, "rejected": 1})
    )


def attempt(spans: list[SpanRecord], stage: str, number: int = 1) -> SpanRecord:
    (found,) = [span for span in spans if span.span_id == attempt_span_id(TRACE_ID, stage, number)]
    return found


def named(spans: list[SpanRecord], name: str) -> SpanRecord:
    (found,) = [span for span in spans if span.name == name]
    return found


def test_plain_job_is_one_whole_trace() -> None:
    spans = skeleton(plain().rows)
    assert check(spans) == WHOLE
    assert [span.name for span in spans if span.name != "queue wait"] == [
        "Sync run",
        "Extract candidates",
        "Index sessions",
        "Extract window #0",
        "Extract window #1",
        "Lead agent",
        "Finish",
    ]
    assert all(span.end_ns is not None and span.end_ns >= span.start_ns for span in spans)
    assert all(span.attributes["lerim.job_id"] == "sync-1" for span in spans)


def test_root_has_reserved_id_and_the_jobs_exact_duration() -> None:
    stream = plain()
    root = skeleton(stream.rows)[0]
    assert root.span_id == ROOT_ID
    assert root.start_ns == START_MS * 1_000_000 + 456_789
    assert root.end_ns == stream.at_ms * 1_000_000


def test_root_sums_tokens_and_known_cost_and_says_the_result() -> None:
    root = skeleton(plain().rows)[0].attributes
    assert (root["lerim.model_calls"], root["lerim.tokens_in"], root["lerim.tokens_out"]) == (2, 200, 20)
    assert (root["lerim.cost_usd"], root["lerim.unpriced_calls"]) == (0.01, 1)
    assert root["lerim.summary"] == "Sync completed: 8 added, 4 skipped"
    assert root["lerim.result.memories.added"] == 8


def test_cost_is_absent_when_no_call_has_a_price() -> None:
    stream = JobStream().requested(FIRST).started(FIRST).called(FIRST, cost_usd=None)
    assert "lerim.cost_usd" not in skeleton(stream.rows)[0].attributes


def test_windows_sit_under_their_group_and_the_group_spans_them() -> None:
    spans = skeleton(plain().rows)
    group = named(spans, "Extract candidates")
    windows = [attempt(spans, FIRST), attempt(spans, SECOND)]
    assert group.span_id == group_span_id(TRACE_ID, "extract")
    assert {window.parent_span_id for window in windows} == {group.span_id}
    assert group.start_ns == windows[0].start_ns - 40_000_000
    assert group.end_ns == windows[1].end_ns
    assert group.attributes["lerim.output.candidates.decision"] == 3
    assert windows[0].attributes["gen_ai.conversation.id"] == "s-1"
    assert windows[0].attributes["lerim.project"] == "p-1"
    assert windows[1].attributes["lerim.window.index"] == 1


def test_stage_links_to_the_attempts_it_needed() -> None:
    spans = skeleton(plain().rows)
    links = attempt(spans, "integrate:aabbccdd").links
    assert [link.span_id for link in links] == [attempt_span_id(TRACE_ID, stage, 1) for stage in (FIRST, SECOND)]
    assert {link.attributes["lerim.link"] for link in links} == {"fan_in"}


def test_queue_wait_stands_beside_its_attempt_and_ends_where_it_starts() -> None:
    spans = skeleton(JobStream().requested("index").started("index", waited_ms=30).rows)
    wait, index = named(spans, "queue wait"), attempt(spans, "index")
    assert wait.parent_span_id == index.parent_span_id
    assert (wait.start_ns, wait.end_ns) == (index.start_ns - 30_000_000, index.start_ns)
    assert index.attributes["lerim.queue.wait_ms"] == 30


def test_retried_attempt_is_an_error_with_its_retry_and_the_next_one_links_to_it() -> None:
    spans = skeleton(
        JobStream().requested("index").started("index").failed("index").started("index", 2).completed("index", 2).rows
    )
    first, second = attempt(spans, "index", 1), attempt(spans, "index", 2)
    assert check(spans) == WHOLE
    assert (first.status, first.attributes["lerim.outcome"]) == ("error", "retry_scheduled")
    assert [event.name for event in first.events] == ["exception", "retry"]
    assert first.events[0].attributes["exception.message"] == "no answer from marker-model"
    assert first.events[1].attributes["lerim.retry_delay_ms"] == 2000
    assert (second.status, second.attributes["lerim.outcome"]) == ("unset", "ok")
    assert [link.span_id for link in second.links] == [first.span_id]
    assert second.links[0].attributes == {"lerim.link": "previous_attempt"}
    assert spans[0].status == "unset"


def test_lost_attempt_ends_in_error_when_the_takeover_starts() -> None:
    stream = JobStream().requested("index").started("index").started("index", 2, takeover=True, waited_ms=90)
    spans = skeleton(stream.completed("index", 2).rows)
    lost, second = attempt(spans, "index", 1), attempt(spans, "index", 2)
    assert check(spans) == WHOLE
    assert (lost.status, lost.attributes["lerim.outcome"], lost.end_ns) == ("error", "worker_lost", second.start_ns)
    assert lost.attributes["error.type"] == "WorkerLost"


def test_quarantine_without_a_word_loses_the_last_attempt_and_marks_the_group() -> None:
    stream = JobStream().requested(FIRST).started(FIRST).quarantined(FIRST, reason="no outcome after 1 attempts")
    spans = skeleton(stream.finished("partial").rows)
    group = named(spans, "Extract candidates")
    assert check(spans) == WHOLE
    assert attempt(spans, FIRST).attributes["lerim.outcome"] == "worker_lost"
    assert (group.status, group.status_text) == ("error", "1 of 1 given up")
    assert [event.name for event in group.events] == ["stage quarantined"]
    assert spans[0].status == "unset"


def test_final_failure_is_dead_and_only_a_failed_job_has_a_failed_root() -> None:
    stream = JobStream().requested("index").started("index").failed("index", retry_in_ms=None).quarantined("index")
    spans = skeleton(stream.finished("failed", error="index: gave up").rows)
    assert check(spans) == WHOLE
    assert attempt(spans, "index").attributes["lerim.outcome"] == "dead"
    assert (spans[0].status, spans[0].status_text) == ("error", "index: gave up")


def test_skipped_stage_is_an_event_on_the_root() -> None:
    stream = JobStream().requested("integrate:aabbccdd", needs=[FIRST]).skipped("integrate:aabbccdd")
    spans = skeleton(stream.finished("partial").rows)
    assert check(spans) == WHOLE
    assert [(event.name, event.attributes["lerim.stage"]) for event in spans[0].events] == [
        ("stage skipped", "integrate:aabbccdd")
    ]


def test_running_job_has_open_spans() -> None:
    spans = skeleton(JobStream().requested(FIRST).requested(SECOND).started(FIRST).rows)
    assert check(spans) == WHOLE
    assert [span.end_ns for span in spans if span.name != "queue wait"] == [None, None, None]
    assert "lerim.outcome" not in attempt(spans, FIRST).attributes


def test_handed_back_and_parked_attempts_are_no_failures() -> None:
    for code in ("handed_back", "parked"):
        spans = skeleton(JobStream().requested("index").started("index").failed("index", code=code).rows)
        span = attempt(spans, "index")
        assert (span.status, span.attributes["lerim.outcome"]) == ("unset", code)
        assert [event.name for event in span.events] == ["retry"]


def test_cancelled_job_ends_running_attempts_without_blame() -> None:
    spans = skeleton(JobStream().requested("index").started("index").finished("cancelled").rows)
    span = attempt(spans, "index")
    assert (span.status, span.attributes["lerim.outcome"], span.end_ns) == ("unset", "cancelled", spans[0].end_ns)


def test_content_off_leaves_no_message_anywhere() -> None:
    stream = JobStream(include_content=False).requested(FIRST).started(FIRST).failed(FIRST, retry_in_ms=None)
    stream.quarantined(FIRST, reason="ModelUnavailable: no answer from marker-model")
    spans = skeleton(stream.finished("failed", error="no answer from marker-model").rows)
    text = str([to_json(span) for span in spans])
    assert "marker" not in text
    assert "[REDACTED]" in text
    assert "ModelUnavailable" in text


def test_children_never_begin_before_the_root() -> None:
    spans = skeleton(JobStream().requested("index").started("index", waited_ms=5000).completed("index").rows)
    assert min(span.start_ns for span in spans) == spans[0].start_ns


def test_span_json_has_exactly_the_promised_fields() -> None:
    assert list(to_json(skeleton(plain().rows)[0])) == [
        "trace_id",
        "span_id",
        "parent_span_id",
        "name",
        "kind",
        "start_ns",
        "end_ns",
        "status",
        "attributes",
        "events",
        "links",
    ]


def test_streams_that_make_no_sense_do_not_raise() -> None:
    stream = JobStream().completed("ghost").failed("ghost", 7).skipped("ghost").quarantined("ghost").run("index", 3)
    broken = Recorded(99, "x", "job-sync-1", 99, "StageStarted", 1, b"{", {}, START_MS)
    future = Recorded(100, "y", "job-sync-1", 100, "StageTeleported", 1, b"{}", {}, START_MS)
    assert check(skeleton([*stream.rows, broken, future])) == WHOLE
    assert skeleton(stream.rows[1:]) == []
    assert skeleton([]) == []


STAGES = ("index", FIRST, SECOND, "summarize:aabbccdd", "integrate:aabbccdd", "publish:p1", "finish")


@st.composite
def streams(draw: st.DrawFn) -> JobStream:
    """Valid streams: stages in any order, each with lost, failed and handed-back attempts before its end."""
    stream = JobStream(draw(st.sampled_from(["sync", "maintain", "ask"])), include_content=draw(st.booleans()))
    for stage in draw(st.permutations(STAGES)):
        stream.requested(stage, needs=draw(st.lists(st.sampled_from(STAGES), max_size=2)))
        if draw(st.booleans()) and draw(st.booleans()):
            stream.skipped(stage)
            continue
        fates = draw(st.lists(st.sampled_from(["lost", "bug", "handed_back", "parked"]), max_size=3))
        for number, fate in enumerate(fates, 1):
            stream.started(stage, number, waited_ms=draw(st.integers(0, 10_000)))
            if fate != "lost":
                stream.failed(stage, number, code=fate)
        if draw(st.booleans()):
            stream.run(stage, len(fates) + 1)
        else:
            stream.quarantined(stage, len(fates))
    return stream.finished(draw(st.sampled_from(["succeeded", "partial", "failed", "cancelled"])))


@settings(max_examples=30, deadline=None)
@given(stream=streams(), data=st.data())
def test_a12_any_prefix_of_a_stream_is_one_whole_trace(stream: JobStream, data: st.DataObject) -> None:
    prefix = stream.rows[: data.draw(st.integers(1, len(stream.rows)))]
    spans = skeleton(prefix)
    assert check(spans) == WHOLE
    assert spans == skeleton(prefix)
    starts = {span.span_id: span.start_ns for span in spans}
    assert all(span.start_ns >= starts[span.parent_span_id] for span in spans if span.parent_span_id)
    if prefix[-1].type == "JobFinished":
        assert all(span.end_ns is not None for span in spans)
