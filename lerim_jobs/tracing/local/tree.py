"""A trace as a whole: the skeleton and what workers recorded put together, checked, and ordered as a tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import ModelCalled
from lerim_jobs.tracing import names
from lerim_jobs.tracing.skeleton.record import SpanRecord
from lerim_jobs.tracing.skeleton.spans import attempt_span_id

__all__ = ["Node", "TraceHealth", "check", "left_behind", "lost_calls", "merge", "stand_ins", "tree", "workers_of"]

_DIED = {"worker_lost", "handed_back"}


class TraceHealth(msgspec.Struct, frozen=True):
    """A whole trace has one root, no orphan (its parent is missing) and no duplicate (an id seen twice)."""

    roots: int
    orphans: int
    duplicates: int

    @property
    def ok(self) -> bool:
        return (self.roots, self.orphans, self.duplicates) == (1, 0, 0)


class Node(msgspec.Struct, frozen=True):
    """A span and the spans under it, in order of their start."""

    span: SpanRecord
    children: list[Node]

    def walk(self) -> Iterator[SpanRecord]:
        """This span and all below, parents first."""
        yield self.span
        for child in self.children:
            yield from child.walk()


def check(spans: Iterable[SpanRecord]) -> TraceHealth:
    """Count what is wrong with a trace."""
    spans = list(spans)
    seen = Counter((span.trace_id, span.span_id) for span in spans)
    parents = [(span.trace_id, span.parent_span_id) for span in spans if span.parent_span_id is not None]
    return TraceHealth(
        roots=len(spans) - len(parents),
        orphans=sum(parent not in seen for parent in parents),
        duplicates=sum(count - 1 for count in seen.values()),
    )


def merge(skeleton: Sequence[SpanRecord], leaves: Iterable[SpanRecord]) -> list[SpanRecord]:
    """One list without repeats or gaps: the log's word over a stored copy, stand-ins for what died with a worker.

    A leaf whose parent is not known (yet) is put under its attempt, else under the root.
    """
    known = {span.span_id: span for span in skeleton}
    recorded = [leaf for leaf in {leaf.span_id: leaf for leaf in leaves}.values() if leaf.span_id not in known]
    whole = [*skeleton, *stand_ins(skeleton, recorded), *recorded]
    ids = {span.span_id for span in whole}
    roots = [span.span_id for span in skeleton if span.parent_span_id is None]
    return [span if _attached(span, ids, roots) else _adopted(span, known, roots) for span in whole]


def stand_ins(
    skeleton: Iterable[SpanRecord], leaves: Iterable[SpanRecord], gone: Collection[str] = ()
) -> list[SpanRecord]:
    """Spans for parents that never ended because their worker died: without them their children would be orphans.

    Only for attempts that are known to have died, and for all of the workers in `gone`: elsewhere the missing parent
    may still arrive.
    """
    skeleton, leaves = list(skeleton), list(leaves)
    died = {span.span_id: span for span in skeleton if span.attributes.get(names.OUTCOME) in _DIED}
    died |= _of_dead_workers(skeleton, gone)
    ids = {leaf.span_id for leaf in leaves} | died.keys()
    missing: dict[str, list[SpanRecord]] = {}
    for leaf in leaves:
        attempt = died.get(_attempt_of(leaf))
        if attempt and leaf.parent_span_id and leaf.parent_span_id not in ids:
            missing.setdefault(leaf.parent_span_id, []).append(leaf)
    return [_stand_in(span_id, children, died[_attempt_of(children[0])]) for span_id, children in missing.items()]


def left_behind(
    skeleton: Iterable[SpanRecord], leaves: Iterable[SpanRecord], gone: Collection[str] = ()
) -> list[SpanRecord]:
    """What workers recorded that are dead (`gone`) or died in an attempt: it is stored here, but perhaps nowhere else.

    Marks of the job itself, which name no attempt, count as theirs.
    """
    died = _of_dead_workers(skeleton, gone)
    return [
        leaf
        for leaf in leaves
        if leaf.span_id not in died and (_attempt_of(leaf) in died or (died and names.ATTEMPT not in leaf.attributes))
    ]


def workers_of(skeleton: Iterable[SpanRecord]) -> set[str]:
    """Everybody who made an attempt."""
    return {str(span.attributes[names.WORKER]) for span in skeleton if names.WORKER in span.attributes}


def _of_dead_workers(skeleton: Iterable[SpanRecord], gone: Collection[str]) -> dict[str, SpanRecord]:
    """Attempts of workers that died in one of them: the spans of an earlier one may have been lost just as well."""
    attempts = [span for span in skeleton if names.OUTCOME in span.attributes]
    lost = {span.attributes.get(names.WORKER) for span in attempts if span.attributes[names.OUTCOME] == "worker_lost"}
    lost |= set(gone)
    return {span.span_id: span for span in attempts if span.attributes.get(names.WORKER) in lost}


def lost_calls(
    events: Iterable[Recorded],
    skeleton: Iterable[SpanRecord],
    leaves: Iterable[SpanRecord],
    gone: Collection[str] = (),
) -> list[SpanRecord]:
    """Model calls that the log knows and whose spans died with their worker: tokens must add up all the same."""
    died = _of_dead_workers(skeleton, gone)
    known = {leaf.span_id for leaf in leaves}
    found = []
    for row in events if died else ():
        span_id, call = row.meta.get("span_id"), row.event if row.type == ModelCalled.__name__ else None
        if not isinstance(call, ModelCalled) or not span_id or span_id in known:
            continue
        for attempt in died.values():
            if (attempt.attributes[names.STAGE], attempt.attributes[names.ATTEMPT]) == (call.stage, call.attempt):
                found.append(_lost_call(row, call, span_id, attempt))
    return found


def _lost_call(row: Recorded, call: ModelCalled, span_id: str, attempt: SpanRecord) -> SpanRecord:
    about = (names.JOB_ID, names.JOB_KIND, names.STAGE, names.ATTEMPT, names.PROJECT, names.CONVERSATION_ID)
    attributes: dict[str, Any] = {key: attempt.attributes[key] for key in about if key in attempt.attributes}
    attributes |= {
        names.ROLE: call.role,
        names.OPERATION: "chat",
        "gen_ai.provider.name": call.provider,
        "gen_ai.request.model": call.model_asked,
        "gen_ai.response.model": call.model,
        names.USAGE_IN: call.tokens_in,
        names.USAGE_OUT: call.tokens_out,
        names.SYNTHETIC: True,
    }
    if call.cost_usd is not None:
        attributes[names.COST] = call.cost_usd
    end_ns = row.at_ms * 1_000_000
    return SpanRecord(
        trace_id=attempt.trace_id,
        span_id=span_id,
        parent_span_id=attempt.span_id,
        name=f"chat {call.model}",
        kind="client",
        start_ns=max(attempt.start_ns, end_ns - call.duration_ms * 1_000_000),
        end_ns=max(attempt.start_ns, end_ns),
        attributes=attributes,
    )


def tree(spans: Iterable[SpanRecord]) -> list[Node]:
    """The roots, usually one; a span whose parent is missing counts as one too."""
    spans = sorted(spans, key=lambda span: (span.start_ns, span.name != names.QUEUE_WAIT, span.span_id))
    nodes = {span.span_id: Node(span, []) for span in spans}
    roots: list[Node] = []
    for node in nodes.values():
        parent = nodes.get(node.span.parent_span_id or "")
        (parent.children if parent and parent is not node else roots).append(node)
    return roots


def _attempt_of(leaf: SpanRecord) -> str:
    """The attempt's span id, by the baggage every span of an attempt carries."""
    stage, attempt = leaf.attributes.get(names.STAGE), leaf.attributes.get(names.ATTEMPT)
    return attempt_span_id(leaf.trace_id, str(stage), attempt) if isinstance(attempt, int) else ""


def _stand_in(span_id: str, children: Sequence[SpanRecord], attempt: SpanRecord) -> SpanRecord:
    about = (names.JOB_ID, names.JOB_KIND, names.STAGE, names.ATTEMPT, names.ROLE, names.PROJECT, names.CONVERSATION_ID)
    inherited = {key: children[0].attributes[key] for key in about if key in children[0].attributes}
    ends = [child.end_ns for child in children if child.end_ns is not None]
    return SpanRecord(
        trace_id=attempt.trace_id,
        span_id=span_id,
        parent_span_id=attempt.span_id,
        name=names.LOST_SPAN,
        kind="internal",
        start_ns=min(child.start_ns for child in children),
        end_ns=max([*ends, attempt.end_ns or 0]),
        status="error",
        status_text="WorkerLost",
        attributes={**inherited, names.SYNTHETIC: True, names.ERROR_TYPE: "WorkerLost"},
    )


def _attached(span: SpanRecord, ids: set[str], roots: Sequence[str]) -> bool:
    if span.parent_span_id is None:
        return not roots or span.span_id in roots
    return span.parent_span_id in ids


def _adopted(span: SpanRecord, skeleton: dict[str, SpanRecord], roots: Sequence[str]) -> SpanRecord:
    attempt = _attempt_of(span)
    parent = attempt if attempt in skeleton else next(iter(roots), None)
    return msgspec.structs.replace(span, parent_span_id=parent)
