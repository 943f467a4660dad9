"""A trace in the terminal: one line a span, with aligned time, tokens and cost, and the errors under their spans."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from lerim_jobs.tracing import names
from lerim_jobs.tracing.content import redacted
from lerim_jobs.tracing.local.tree import Node, tree
from lerim_jobs.tracing.skeleton.record import SpanRecord

__all__ = ["Part", "Style", "Totals", "failed_only", "plain", "render", "slowest", "totals"]

Part = Literal["name", "dim", "ok", "error", "running"]
Style = Callable[[Part, str], str]
"""Dresses a piece of text for the terminal; the visible width must stay as it is."""

_MS = 1_000_000
_SHOWN_WAIT_MS = 100
_FOLD_OVER = 6
_FOLD_HEAD = 3
_MAX_TEXT = 160
_NO_COUNTS = {"turn_from", "turn_to", "proposals", "decay", "decayed"}
"""Outputs that are places, or lists whose parts stand below as spans."""
_COUNTED_NOUNS = {"candidates"}
"""Outputs whose inner keys are things, not deeds: they take a plural."""
_CONTENT = {
    "gen_ai.system_instructions": "instructions",
    "gen_ai.input.messages": "prompt",
    "gen_ai.output.messages": "answer",
    "gen_ai.tool.call.arguments": "arguments",
    "gen_ai.tool.call.result": "result",
    "http.request.body": "request body",
    "http.response.body": "response body",
}
_MARKS: dict[str, tuple[Part, str]] = {"ok": ("ok", "✓"), "error": ("error", "✗"), "running": ("running", "…")}


class Totals(msgspec.Struct, frozen=True):
    """Tokens and cost of a span and all below it; `cost_usd` None: nothing there has a known price."""

    tokens: int = 0
    cost_usd: float | None = None


class _Look(msgspec.Struct, frozen=True):
    """How to draw: the present, and what was asked to be shown."""

    now_ns: int
    unfold: bool
    with_content: bool


class _Line(msgspec.Struct, frozen=True):
    """One row before alignment; a row without columns is a note."""

    indent: str
    text: str
    part: Part = "name"
    columns: tuple[str, str, str] = ("", "", "")
    mark: str = ""


def plain(_part: Part, text: str) -> str:
    """No dress."""
    return text


def render(
    spans: Iterable[SpanRecord],
    *,
    now_ns: int,
    style: Style = plain,
    unfold: bool = False,
    with_content: bool = False,
) -> list[str]:
    """The lines of `lerim trace show`. `now_ns` is how far running spans have come; `unfold` shows every repeat.

    `with_content` shows the recorded prompts, answers, tool arguments and results below their spans.
    """
    lines: list[_Line] = []
    for root in tree(spans):
        lines += _lines(root, "", "", _Look(now_ns, unfold, with_content))
        if said := root.span.attributes.get(names.SUMMARY):
            lines.append(_Line("", str(said), "error" if root.span.status == "error" else "ok"))
    return _aligned(lines, style)


def failed_only(spans: Sequence[SpanRecord]) -> list[SpanRecord]:
    """Spans that failed or carry an error, and all they are part of."""
    by_id = {span.span_id: span for span in spans}
    kept: set[str] = set()
    for span in spans:
        failed = span.status == "error" or any(event.name == "exception" for event in span.events)
        at: SpanRecord | None = span if failed else None
        while at is not None and at.span_id not in kept:
            kept.add(at.span_id)
            at = by_id.get(at.parent_span_id or "")
    return [span for span in spans if span.span_id in kept]


def slowest(spans: Sequence[SpanRecord], most: int) -> list[tuple[str, str, str]]:
    """Name, time and share of the whole of the spans with the most time of their own, nothing below it counted."""
    ended = [span for span in spans if span.end_ns is not None]
    below: dict[str, int] = {}
    for span in ended:
        if span.parent_span_id:
            below[span.parent_span_id] = below.get(span.parent_span_id, 0) + _taken(span)
    whole = max((_taken(span) for span in ended if span.parent_span_id is None), default=0)
    own = sorted(((max(0, _taken(span) - below.get(span.span_id, 0)), span.name) for span in ended), reverse=True)
    return [(name, _duration(taken), f"{taken / whole:.0%}" if whole else "") for taken, name in own[:most] if taken]


def _taken(span: SpanRecord) -> int:
    return (span.end_ns or span.start_ns) - span.start_ns


def totals(node: Node) -> Totals:
    """The log's sums where the span has them, else the sum over its children; a model call counts itself."""
    about = node.span.attributes
    for read, written, cost in (
        (names.TOKENS_IN, names.TOKENS_OUT, names.COST_USD),
        (names.USAGE_IN, names.USAGE_OUT, names.COST),
    ):
        if read in about or written in about:
            return Totals(_int(about.get(read)) + _int(about.get(written)), _cost(about, cost))
    below = [totals(child) for child in node.children]
    costs = [one.cost_usd for one in below if one.cost_usd is not None]
    return Totals(sum(one.tokens for one in below), sum(costs) if costs else None)


def _lines(node: Node, first: str, rest: str, look: _Look) -> Iterator[_Line]:
    """This span, its notes, and the spans below. `first` leads its own row, `rest` all that follow."""
    yield _row([node], first, _title(node.span), look.now_ns)
    shown = [child for child in node.children if not _is_marker(child.span)]
    stem = rest + ("│  " if shown else "   ")
    for part, text in _notes(node.span):
        yield _Line(stem, text, part)
    for text in _content(node.span) if look.with_content else ():
        yield _Line(stem, text, "dim")
    groups = list(_folded(shown, look.unfold))
    for number, group in enumerate(groups, 1):
        last = number == len(groups)
        lead = rest + ("└─ " if last else "├─ ")
        if len(group) > 1:
            yield _row(group, lead, f"… {len(group)} more: {_kind(group[0])}", look.now_ns)
        else:
            yield from _lines(group[0], lead, rest + ("   " if last else "│  "), look)


def _is_marker(span: SpanRecord) -> bool:
    return span.name == names.QUEUE_WAIT or (span.end_ns == span.start_ns and span.name.endswith(f" {names.STARTED}"))


def _folded(children: Sequence[Node], unfold: bool) -> Iterator[list[Node]]:
    """Long runs of the same name keep their first few and their last; failed and running spans always show."""
    for _, run in itertools.groupby(children, key=_kind):
        nodes = list(run)
        if unfold or len(nodes) <= _FOLD_OVER:
            yield from ([node] for node in nodes)
            continue
        yield from ([node] for node in nodes[:_FOLD_HEAD])
        for quiet, some in itertools.groupby(nodes[_FOLD_HEAD:-1], key=_quiet):
            alike = list(some)
            yield from [alike] if quiet else [[node] for node in alike]
        yield nodes[-1:]


def _kind(node: Node) -> str:
    """The name without the number of a window."""
    return re.sub(r" #\d+$", "", node.span.name)


def _quiet(node: Node) -> bool:
    return all(span.status != "error" and span.end_ns is not None for span in node.walk())


def _row(nodes: Sequence[Node], lead: str, title: str, now_ns: int) -> _Line:
    sums = [totals(node) for node in nodes]
    costs = [one.cost_usd for one in sums if one.cost_usd is not None]
    tokens = sum(one.tokens for one in sums)
    taken = sum((node.span.end_ns or max(now_ns, node.span.start_ns)) - node.span.start_ns for node in nodes)
    columns = (_duration(taken), f"{tokens:,} tok" if tokens else "", f"${sum(costs):.4f}" if costs else "")
    return _Line(lead, title, "name", columns, max((_state(node.span) for node in nodes), key=list(_MARKS).index))


def _state(span: SpanRecord) -> str:
    return "running" if span.end_ns is None else "error" if span.status == "error" else "ok"


def _title(span: SpanRecord) -> str:
    """The name without what the tree shows anyway, with attempt, wait and subject where they say something."""
    name = span.name.removeprefix("execute_tool ").removeprefix("invoke_agent ")
    about = span.attributes
    said = []
    if _int(about.get(names.ATTEMPT)) > 1 and names.OUTCOME in about:
        said.append(f"attempt {about[names.ATTEMPT]}")
    if _int(about.get(names.QUEUE_WAIT_MS)) >= _SHOWN_WAIT_MS:
        said.append(f"waited {_duration(_int(about[names.QUEUE_WAIT_MS]) * _MS)}")
    return f"{name} ({', '.join(said)})" if said else name


def _notes(span: SpanRecord) -> Iterator[tuple[Part, str]]:
    if counts := _counts(span):
        yield "dim", counts
    if span.status == "error" and span.status_text:
        yield "error", _short(span.status_text)
    for event in span.events:
        about = event.attributes
        if event.name == "exception" and span.status != "error":
            message = about.get("exception.message", redacted("content", False))
            yield "dim", _short(f"went on after {about.get('exception.type')}: {message}")
        elif event.name == "retry":
            yield "dim", f"again at {about.get(names.RETRY_AT)}"
        elif event.name.startswith("stage "):
            yield "error", _short(f"{event.name}: {about.get(names.STAGE)}: {about.get('lerim.reason')}")


def _content(span: SpanRecord) -> Iterator[str]:
    for key, label in _CONTENT.items():
        if value := span.attributes.get(key):
            lines = str(value).splitlines()
            yield f"{label}: {lines[0]}"
            yield from (f"  {line}" for line in lines[1:])


def _counts(span: SpanRecord) -> str:
    """The numbers of a stage's output: `found 3, indexed 2`, or `candidates: 12 decisions, 8 learnings` when nested."""
    prefix = f"{names.OUTPUT}."
    found = {key.removeprefix(prefix): value for key, value in span.attributes.items() if key.startswith(prefix)}
    found = {key: value for key, value in found.items() if key.partition(".")[0] not in _NO_COUNTS}
    flat = [f"{key.replace('_', ' ')} {value:g}" for key, value in found.items() if "." not in key and value]
    nested: dict[str, list[str]] = {}
    for key, value in found.items():
        outer, dot, inner = key.partition(".")
        if dot and value:
            plural = "s" if outer in _COUNTED_NOUNS and value != 1 else ""
            nested.setdefault(outer, []).append(f"{value:g} {inner.replace('_', ' ')}{plural}")
    return "; ".join([", ".join(flat)] * bool(flat) + [f"{key}: {', '.join(said)}" for key, said in nested.items()])


def _aligned(lines: Sequence[_Line], style: Style) -> list[str]:
    """Pad before dressing, so that escape codes do not shift the columns."""
    rows = [line for line in lines if line.mark]
    width = max((len(line.indent) + len(line.text) for line in rows), default=0)
    widths = [max((len(line.columns[n]) for line in rows), default=0) for n in range(3)]
    return [_dressed(line, width, widths, style).rstrip() for line in lines]


def _dressed(line: _Line, width: int, widths: Sequence[int], style: Style) -> str:
    if not line.mark:
        return style("dim", line.indent) + style(line.part, line.text)
    part, mark = _MARKS[line.mark]
    columns = "  ".join(text.rjust(size) for text, size in zip(line.columns, widths, strict=True) if size)
    pad = " " * (width - len(line.indent) - len(line.text))
    return f"{style('dim', line.indent)}{style('name', line.text)}{pad}  {style('dim', columns)}  {style(part, mark)}"


def _duration(ns: int) -> str:
    seconds = ns / 1_000_000_000
    if seconds < 1:
        return f"{ns // _MS} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes} m {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_TEXT else f"{line[: _MAX_TEXT - 1]}…"


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _cost(about: dict[str, object], key: str) -> float | None:
    value = about.get(key)
    return float(value) if isinstance(value, int | float) else None
