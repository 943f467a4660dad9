"""`lerim report`: what a week looked like, for the one who pays and the one who waits."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from lerim_jobs.cli.output import emit, json_option, print_line, table
from lerim_jobs.cli.state import open_state
from lerim_jobs.clock import window_start_ms
from lerim_jobs.errors import BadInput
from lerim_jobs.jobs.report import Report, report

__all__ = ["report_command"]

_BAR = 24


@click.command("report")
@click.option("--since", "window", default="7d", show_default=True, help="How far back: 30s, 2m, 1h, 7d or all.")
@json_option
def report_command(window: str, as_json: bool) -> None:
    """Review the last days: tokens, cost by role, errors, retries, fallbacks, slow stages."""
    try:
        since_ms = window_start_ms(window) or 0
    except ValueError as exc:
        raise BadInput(str(exc)) from None
    found = report(open_state().store, since_ms=since_ms)
    if as_json:
        emit(msgspec.to_builtins(found))
        return
    _show(found, window)


def _show(found: Report, window: str) -> None:
    jobs = ", ".join(f"{count} {status}" for status, count in found.jobs.items()) or "none"
    print_line(f"Jobs since {window}: {jobs}")
    errors = f"{found.error_rate:.1%}" if found.error_rate is not None else "no calls"
    print_line(
        f"Model requests that failed: {errors}; {found.retries} retried, {found.fallbacks} answered by a fallback"
    )
    most = max((day.tokens_in + day.tokens_out for day in found.days), default=0)
    print_line()
    table(("day", "calls", "tokens", "", "cost"), [_day(day, most) for day in found.days], empty="No model was called.")
    if found.roles:
        print_line()
        rows = [(one.key, one.calls, f"{one.tokens_in + one.tokens_out:,}", _cost(one)) for one in found.roles]
        table(("role", "calls", "tokens", "cost"), rows, empty="")
    if found.slowest:
        print_line()
        slow = [(one.stage, one.attempts, f"{one.p50_s:.1f}", f"{one.max_s:.1f}", one.failed) for one in found.slowest]
        table(("stage", "attempts", "p50 s", "max s", "failed"), slow, empty="")


def _day(day: Any, most: int) -> tuple[object, ...]:
    tokens = day.tokens_in + day.tokens_out
    return day.key, day.calls, f"{tokens:,}", "█" * max(1, round(_BAR * tokens / most)) if most else "", _cost(day)


def _cost(line: Any) -> str:
    if line.cost_usd is None:
        return "unknown" if line.calls else ""
    return f"${line.cost_usd:.4f}" + (f" + {line.unpriced_calls} unknown" if line.unpriced_calls else "")
