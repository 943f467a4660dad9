"""What a stage decided, as spans of no length below its attempt: read from the stage's output in the log.

Candidates that were dropped, proposals that were refused, memories added, updated, superseded, merged, archived or left alone,
and each decay calculation, all with their reasons. Titles and reasons are content; ids, numbers and kinds are not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lerim_jobs import ids
from lerim_jobs.jobs.attempts import Attempt
from lerim_jobs.kinds import known_stage
from lerim_jobs.log.events import JobRequested
from lerim_jobs.tracing import names
from lerim_jobs.tracing.content import mask, redacted
from lerim_jobs.tracing.skeleton.record import SpanRecord

__all__ = ["decisions"]

_MOST = 200
"""Of one attempt; the counts of all are on the attempt itself."""


def decisions(
    request: JobRequested, attempt: Attempt, *, parent_span_id: str, at_ns: int, about: Mapping[str, Any]
) -> list[SpanRecord]:
    """The spans of one attempt that ended well; `about` is what every one of its spans says."""
    found: list[SpanRecord] = []
    for number, (name, said) in enumerate(_said(_decided(attempt), request.include_content)):
        if number == _MOST:
            break
        found.append(
            SpanRecord(
                trace_id=request.trace_id,
                span_id=ids.span_id(request.trace_id, "decision", attempt.stage, str(attempt.number), str(number)),
                parent_span_id=parent_span_id,
                name=name,
                kind="internal",
                start_ns=at_ns,
                end_ns=at_ns,
                attributes={**about, **{key: value for key, value in said.items() if value is not None}},
            )
        )
    return found


def _decided(attempt: Attempt) -> Mapping[str, Any]:
    """The lists of the output that are decisions: those its family names."""
    known = known_stage(attempt.stage)
    names_of = known.decides if known else ()
    return {name: attempt.output[name] for name in names_of if name in attempt.output}


def _said(output: Mapping[str, Any], include_content: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    for one in _each(output, "dropped"):
        yield "candidate dropped", _words(one, include_content)
    for one in _each(output, "decay"):
        numbers = {f"lerim.decay.{key}": one.get(key) for key in ("confidence", "days", "effective", "archive")}
        yield "decay", {"lerim.memory_id": one.get("memory_id"), **numbers}
    for one in _each(output, "refused"):
        if one.get("action") == "none":  # the others stand among the proposals
            yield "candidate undecided", _words(one, include_content)
    for one in _each(output, "proposals"):
        yield _change(str(one.get("action")), one, include_content)
    for one in _each(output, "decayed"):
        yield _change("archive", one, include_content)


def _change(action: str, one: Mapping[str, Any], include_content: bool) -> tuple[str, dict[str, Any]]:
    """A change that was proposed, and whether the checks let it through."""
    refused = one.get("refused")
    about: dict[str, Any] = {
        "lerim.memory_id": one.get("memory_id"),
        "lerim.absorbed": one.get("absorbs") or None,
        names.REFUSED: redacted(mask(str(refused)), include_content) if refused else None,
    }
    return f"memory {action} refused" if refused else f"memory {action}", {**about, **_words(one, include_content)}


def _each(output: Mapping[str, Any], key: str) -> Iterator[Mapping[str, Any]]:
    value = output.get(key)
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, Mapping))


def _words(one: Mapping[str, Any], include_content: bool) -> dict[str, Any]:
    words = {names.REASON: one.get("reason"), "lerim.title": one.get("title")}
    return {key: redacted(mask(str(value)), include_content) for key, value in words.items() if value}
