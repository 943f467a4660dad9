"""Taking needles out of texts and JSON values. What gives a value its shape stays: names of fields, ids, hashes, kinds."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import msgspec

from lerim_jobs.log.events import EVENTS, PublishedFile, Quote
from lerim_jobs.memory.memory import REDACTED
from lerim_jobs.memory.proposals import Candidate, Proposal
from lerim_jobs.redaction.needles import Needles
from lerim_jobs.sessions.transcript import Segment, Turn
from lerim_jobs.tracing.skeleton.record import SpanEvent, SpanLink, SpanRecord

__all__ = ["Scrubber"]

_SHAPES: tuple[type[msgspec.Struct], ...] = (
    *EVENTS.values(),
    Quote,
    PublishedFile,
    Candidate,
    Proposal,
    Segment,
    Turn,
    SpanRecord,
    SpanEvent,
    SpanLink,
)
_FIELDS = frozenset(name for shape in _SHAPES for name in shape.__struct_fields__)
_SHAPE = frozenset(
    """memory_id project_id session_id job_id trace_id root_span_id span_id parent_span_id stream agent host worker owner
    stage queue lane kind status speaker type role key blob answer_blob output_blob request_hash tail_hash first_key digest
    action absorbs needs after into merged_into model model_asked provider scope requested_by code error_type part_kind
    tool_call_id tool_name model_name provider_name finish_reason pattern_hash lerim.job_id lerim.stage
    gen_ai.conversation.id""".split()
)
"""Values under these names are never content."""

_SAID = ("title", "body", "reason", "quote", "text")


class Scrubber:
    """Counts what it removes: `hits`, and the texts themselves in `removed`; `kept` are hits it had to leave."""

    def __init__(self, needles: Needles) -> None:
        self.needles = needles
        self.hits = 0
        self.kept = 0
        self.removed: Counter[str] = Counter()

    def text(self, text: str) -> str:
        """The text without them."""
        after, removed = self.needles.sub(text)
        self.hits += len(removed)
        self.removed.update(removed)
        return after

    def json(self, data: bytes, also_keep: frozenset[str] = frozenset()) -> bytes:
        """JSON without them; the same bytes when there is nothing to remove. Other bytes are taken as text."""
        raw = data.decode("utf-8", "surrogateescape")
        if not self.needles.touches(raw):
            return data
        try:
            value = msgspec.json.decode(data)
        except msgspec.DecodeError:
            return self.text(raw).encode("utf-8", "surrogateescape")
        after = self.value(value, also_keep)
        return data if after == value else msgspec.json.encode(after)

    def value(self, value: Any, also_keep: frozenset[str] = frozenset()) -> Any:
        """A decoded JSON value without them."""
        if isinstance(value, str):
            return self._string(value)
        if isinstance(value, list):
            return [self.value(one, also_keep) for one in value]
        if not isinstance(value, dict):
            return value
        after = {}
        about_it = self.needles.memory_id is not None and value.get("memory_id") == self.needles.memory_id
        for name, part in value.items():
            if about_it and name in _SAID and isinstance(part, str) and part:
                self.hits += part != REDACTED
                after[name] = REDACTED
            elif (name in _SHAPE or name in also_keep) and isinstance(part, str):
                self.kept += len(self.needles.sub(part)[1])
                after[name] = part
            else:
                after[name if name in _FIELDS else self.text(name)] = self.value(part, also_keep)
        return after

    def _string(self, text: str) -> str:
        """A string, which may hold JSON itself, as tool arguments do."""
        if text[:1] in ("{", "[", '"') and len(text) > 2:
            try:
                inner = json.loads(text)
            except ValueError:
                return self.text(text)
            after = self.value(inner)
            return text if after == inner else json.dumps(after, ensure_ascii=False, separators=(",", ":"))
        return self.text(text)
