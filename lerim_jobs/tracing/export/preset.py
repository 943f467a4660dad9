"""Spans with ids decided beforehand: an id generator and a sampler for the OpenTelemetry SDK.

Outside `preset` ids are random and nothing becomes a root: every trace begins with a job, and a job's trace id and
sampling decision were reserved when it was requested.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

__all__ = ["PresetIdGenerator", "preset", "sampler"]

_ids: ContextVar[tuple[int, int] | None] = ContextVar("preset_ids", default=None)


class PresetIdGenerator(RandomIdGenerator):
    """Random ids, except inside `preset`."""

    def generate_span_id(self) -> int:
        given = _ids.get()
        return given[1] if given else super().generate_span_id()

    def generate_trace_id(self) -> int:
        given = _ids.get()
        return given[0] if given else super().generate_trace_id()


@contextmanager
def preset(trace_id: str, span_id: str) -> Iterator[None]:
    """The span started inside gets these ids. Start exactly one."""
    token = _ids.set((int(trace_id, 16), int(span_id, 16)))
    try:
        yield
    finally:
        _ids.reset(token)


def sampler() -> Sampler:
    """Follow the parent; a root is recorded only when its ids are preset."""
    return ParentBased(root=_OnlyPreset())


class _OnlyPreset(Sampler):
    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        reserved = _ids.get() is not None
        return SamplingResult(Decision.RECORD_AND_SAMPLE if reserved else Decision.DROP, attributes)

    def get_description(self) -> str:
        return "OnlyPreset"
