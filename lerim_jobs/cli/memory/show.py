"""`lerim memory show`: a memory and where it came from, on one screen."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from lerim_jobs.api.results import Memory, ShownMemory
from lerim_jobs.cli.output import emit, json_option, note, print_line
from lerim_jobs.cli.state import open_lerim
from lerim_jobs.clock import day, iso, ms_from_iso
from lerim_jobs.memory import wording
from lerim_jobs.memory.history.provenance import Call, Decision, Origin

__all__ = ["show"]

_SHOWN = (*Memory.__struct_fields__, "reason", "by_hand")
_TURN_CHARS = 150
_MOST_ORIGINS = 3


@click.command()
@click.argument("memory_id")
@click.option("--full", is_flag=True, help="Every quote, and the turns around them uncut.")
@json_option
def show(memory_id: str, full: bool, as_json: bool) -> None:
    """Show the memory MEMORY_ID and where it came from: who said it, the call that kept it, the decision that placed it."""
    one = open_lerim().show(memory_id)
    if as_json:
        emit({**{name: getattr(one, name) for name in _SHOWN}, "origins": [_json(origin) for origin in one.origins]})
        return
    title = wording.line(one.title)
    print_line(f"{title}\n{'-' * len(title)}")
    if one.body != one.title:
        print_line(wording.text(one.body))
    print_line(f"\n{_state(one)}\n{one.path or 'not published as a file yet'}")
    for origin in one.origins if full else one.origins[-_MOST_ORIGINS:]:
        print_line()
        _print_origin(origin, full=full)
    if len(one.origins) > _MOST_ORIGINS and not full:
        note(f"{len(one.origins) - _MOST_ORIGINS} older quotes are not shown: --full shows them.")
    if not one.origins:
        print_line("\nIt was written by hand: no session proves it." if one.by_hand else "\nNo quote proves it.")


def _state(one: ShownMemory) -> str:
    tags = f"; {', '.join(one.tags)}" if one.tags else ""
    into = f" into {one.merged_into}" if one.merged_into else ""
    why = f" ({wording.line(one.reason, limit=300)})" if one.status != "active" and one.reason else ""
    hand = ", edited by hand" if one.by_hand else ""
    said = f"said {_day(one.said_at)}; " if one.said_at else ""
    changed = f"; changed {one.updated_at}" if one.updated_at != one.kept_at else ""
    return (
        f"{one.memory_id}: {one.kind}, {one.status}{into}{why}{hand}; confidence {one.confidence:.2f}; "
        f"project {one.project}; {said}kept {one.kept_at}{changed}{tags}"
    )


def _day(at: str) -> str:
    return day(ms_from_iso(at))


def _print_origin(origin: Origin, *, full: bool) -> None:
    quote = origin.quote
    when = iso(quote.at_ms) or "at an unknown time"
    print_line(f'"{wording.text(quote.text)}"')
    print_line(f"  said by    {quote.speaker}, {when}, turn {quote.turn} of {quote.agent} session {quote.session_id}")
    for turn in origin.around:
        text = wording.text(turn.text) if full else wording.line(turn.text, limit=_TURN_CHARS)
        cut = "" if full or len(" ".join(turn.text.split())) <= _TURN_CHARS else "…"
        mark = "  (taken back)" if turn.n in origin.taken_back else ""
        print_line(f"  {'>' if turn.n == quote.turn else ' '} {turn.n:>4}  {turn.speaker}: {text}{cut}{mark}")
    if origin.kept_by:
        print_line(f"  kept by    {_kept(origin.kept_by)}")
    if origin.placed_by:
        print_line(f"  placed by  {_placed(origin.placed_by)}")
        if origin.placed_by.job_id:
            print_line(f"             lerim trace show {origin.placed_by.job_id}")


def _kept(call: Call) -> str:
    cost = "cost unknown" if call.cost_usd is None else f"${call.cost_usd:.4f}"
    return (
        f"{call.model} ({call.role}), {call.tokens_in} + {call.tokens_out} tokens, {cost}; "
        f"{call.stage}, span {call.span_id}, trace {call.trace_id}"
    )


def _placed(made: Decision) -> str:
    reason = f": {wording.line(made.reason, limit=300)}" if made.reason else ""
    where = f"; {made.stage} attempt {made.attempt}, span {made.span_id}, trace {made.trace_id}" if made.stage else ""
    return f"{_who(made)}, {made.action}{reason}{where}"


def _who(made: Decision) -> str:
    if made.agent:
        return f"the {made.agent}" + (f" ({made.model})" if made.model else "")
    return "no agent" if made.stage and made.model else "by hand"


def _json(origin: Origin) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(origin)
    found["quote"]["at"] = iso(origin.quote.at_ms)
    return found
