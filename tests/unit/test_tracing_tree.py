"""Skeleton and leaves become one tree: nothing doubled, nothing loose, and it reads well."""

from __future__ import annotations

from typing import Any

from lerim_jobs.log.events import JobRequested
from lerim_jobs.tracing.local.render import render
from lerim_jobs.tracing.local.tree import TraceHealth, check, left_behind, merge, stand_ins, tree, workers_of
from lerim_jobs.tracing.skeleton.record import SpanRecord
from lerim_jobs.tracing.skeleton.spans import attempt_span_id, skeleton, started
from tests.job_streams import START_MS, TRACE_ID, JobStream

WHOLE = TraceHealth(roots=1, orphans=0, duplicates=0)
NOW_NS = (START_MS + 60_000) * 1_000_000
LEAD = "integrate:aabbccdd"


def leaf(
    span_id: str, parent: str, name: str = "chat m", *, stage: str = LEAD, attempt: int = 1, **more: Any
) -> SpanRecord:
    attributes = {"lerim.job_id": "sync-1", "lerim.stage": stage, "lerim.attempt": attempt, **more.pop("about", {})}
    start_ns = (START_MS + 320) * 1_000_000
    return SpanRecord(
        TRACE_ID, span_id, parent, name, "client", start_ns, start_ns + 50_000_000, attributes=attributes, **more
    )


def lead_job() -> JobStream:
    return JobStream().requested("index").requested(LEAD).started(LEAD).called(LEAD).completed(LEAD).finished()


ATTEMPT = attempt_span_id(TRACE_ID, LEAD, 1)


def test_stored_copies_of_the_skeleton_are_not_doubled() -> None:
    bones = skeleton(lead_job().rows)
    whole = merge(bones, [*bones, leaf("aa" * 8, ATTEMPT), leaf("aa" * 8, ATTEMPT)])
    assert check(whole) == WHOLE
    assert len(whole) == len(bones) + 1


def test_leaf_with_an_unknown_parent_is_shown_under_its_attempt() -> None:
    whole = merge(skeleton(lead_job().rows), [leaf("aa" * 8, "bb" * 8)])
    assert check(whole) == WHOLE
    assert whole[-1].parent_span_id == ATTEMPT


def test_leaf_of_an_unknown_stage_is_shown_under_the_root() -> None:
    whole = merge(skeleton(lead_job().rows), [leaf("aa" * 8, "bb" * 8, stage="gone")])
    assert check(whole) == WHOLE


def test_parent_that_died_with_its_worker_gets_a_stand_in() -> None:
    stream = JobStream().requested(LEAD).started(LEAD).started(LEAD, 2, takeover=True).completed(LEAD, 2).finished()
    bones = skeleton(stream.rows)
    leaves = [leaf("aa" * 8, "bb" * 8), leaf("cc" * 8, "bb" * 8), leaf("dd" * 8, "ee" * 8, attempt=2)]
    (stand_in,) = stand_ins(bones, leaves)
    assert (stand_in.span_id, stand_in.parent_span_id, stand_in.status) == ("bb" * 8, ATTEMPT, "error")
    assert stand_in.attributes["lerim.job_id"] == "sync-1"
    assert check([*bones, stand_in, *leaves[:2]]) == WHOLE


def test_missing_parent_of_a_living_attempt_gets_no_stand_in() -> None:
    assert stand_ins(skeleton(lead_job().rows), [leaf("aa" * 8, "bb" * 8)]) == []


def test_spans_of_a_worker_that_died_later_are_left_behind_and_get_stand_ins() -> None:
    bones = skeleton(lead_job().rows)
    (worker,) = workers_of(bones)
    spans = [leaf("aa" * 8, "bb" * 8)]
    assert [one.span_id for one in stand_ins(bones, spans, [worker])] == ["bb" * 8]
    mark = started(lead_job().rows[0].as_(JobRequested), "sync-1")
    assert left_behind(bones, [*spans, mark], [worker]) == [*spans, mark]
    assert left_behind(bones, [*spans, mark], ["somebody else"]) == []


def test_check_counts_roots_orphans_and_duplicates() -> None:
    bones = skeleton(lead_job().rows)
    assert check([*bones, bones[0], leaf("aa" * 8, "bb" * 8)]) == TraceHealth(roots=2, orphans=1, duplicates=1)
    assert not check([]).ok


def test_children_stand_in_order_of_their_start() -> None:
    (root,) = tree(skeleton(lead_job().rows))
    assert [node.span.name for node in root.children] == ["queue wait", "Lead agent"]


def rendered(leaves: list[SpanRecord], stream: JobStream | None = None, **more: Any) -> list[str]:
    return render(merge(skeleton((stream or lead_job()).rows), leaves), now_ns=NOW_NS, **more)


def test_trace_reads_as_an_aligned_tree_with_time_tokens_and_cost() -> None:
    stream = JobStream().requested("index").run("index", found=3, indexed=2)
    stream.requested("extract:aa:0").started("extract:aa:0").called("extract:aa:0", tokens=1500)
    stream.completed("extract:aa:0", candidates={"decision": 12, "learning": 8})
    stream.requested(LEAD).started(LEAD, waited_ms=90).called(LEAD).completed(LEAD, added=8).requested("finish")
    stream.run("finish").finished(memories={"added": 8, "unchanged": 4})
    usage = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 10, "operation.cost": 0.01}
    chat, tool = leaf("aa" * 8, ATTEMPT, about=usage), leaf("bb" * 8, ATTEMPT, "execute_tool search_memories")
    assert rendered([chat, tool], stream) == [
        "Sync run                  1.5 s  1,620 tok  $0.0200  ✓",
        "├─ Index sessions        100 ms                      ✓",
        "│     found 3, indexed 2",
        "├─ Extract candidates    240 ms  1,510 tok  $0.0100  ✓",
        "│  │  candidates: 12 decisions, 8 learnings",
        "│  └─ Extract window #0  200 ms  1,510 tok  $0.0100  ✓",
        "│        candidates: 12 decisions, 8 learnings",
        "├─ Lead agent            200 ms    110 tok  $0.0100  ✓",
        "│  │  added 8",
        "│  ├─ chat m              50 ms    110 tok  $0.0100  ✓",
        "│  └─ search_memories     50 ms                      ✓",
        "└─ Finish                100 ms                      ✓",
        "Sync completed: 8 added, 4 skipped",
    ]


def test_failed_attempts_show_what_happened_and_what_followed() -> None:
    stream = JobStream().requested(LEAD).started(LEAD).failed(LEAD).started(LEAD, 2, waited_ms=100).completed(LEAD, 2)
    lines = rendered([], stream)
    assert any(line.endswith("✗") for line in lines)
    assert "│     ModelUnavailable: no answer from marker-model" in lines
    assert any("again at 2023-11-14T22:13:22" in line for line in lines)
    assert any("Lead agent (attempt 2, waited 100 ms)" in line for line in lines)


def test_running_spans_are_marked_and_have_come_as_far_as_now() -> None:
    lines = rendered([], JobStream().requested("index").started("index"))
    assert lines[0].endswith("…")
    assert lines[0].split()[2:4] == ["60.0", "s"] or "1 m 00 s" in lines[0]


def test_long_repeats_are_folded_but_failures_are_always_shown() -> None:
    leaves = [leaf(f"{number:016x}", ATTEMPT) for number in range(1, 21)]
    for number in (10, 11):
        leaves[number - 1] = leaf(f"{number:016x}", ATTEMPT, status="error", status_text="RateLimited")
    lines = rendered(leaves)
    assert [line.split("─ ")[1].split("  ")[0] for line in lines if "chat m" in line] == [
        *["chat m"] * 3,
        "… 6 more: chat m",
        *["chat m"] * 2,
        "… 8 more: chat m",
        "chat m",
    ]
    assert sum("RateLimited" in line for line in lines) == 2
    assert sum("chat m" in line for line in rendered(leaves, unfold=True)) == 20


def test_swallowed_error_is_shown_on_the_span_that_went_on() -> None:
    from lerim_jobs.tracing.skeleton.record import SpanEvent

    events = [SpanEvent("exception", NOW_NS, {"exception.type": "ValueError", "exception.message": "bad\nshape"})]
    assert any(
        "went on after ValueError: bad shape" in line for line in rendered([leaf("aa" * 8, ATTEMPT, events=events)])
    )


def test_style_dresses_text_without_moving_columns() -> None:
    marked = rendered([], style=lambda part, text: f"<{part}>{text}</>")
    assert any("<ok>✓</>" in line for line in marked)
    assert any("<name>Lead agent</>" in line for line in marked)
