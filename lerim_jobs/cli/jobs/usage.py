"""`lerim usage`: calls, tokens and cost, from the log."""

from __future__ import annotations

import click

from lerim_jobs.cli.output import emit, json_option, print_line, table
from lerim_jobs.cli.state import open_state
from lerim_jobs.clock import window_start_ms
from lerim_jobs.errors import BadInput
from lerim_jobs.jobs.budget import spent
from lerim_jobs.jobs.usage import DIMENSIONS, Dimension, UsageLine, usage
from lerim_jobs.projects import active_projects

__all__ = ["usage_command"]


@click.command("usage")
@click.option("--by", default="role", show_default=True, type=click.Choice(DIMENSIONS), help="What to sum over.")
@click.option("--since", "window", default="all", show_default=True, help="How far back: 30s, 2m, 1h, 7d or all.")
@json_option
def usage_command(by: Dimension, window: str, as_json: bool) -> None:
    """Show what models were used for and what it cost."""
    try:
        since_ms = window_start_ms(window) or 0
    except ValueError as exc:
        raise BadInput(str(exc)) from None
    state = open_state()
    lines = usage(state.store, by, since_ms=since_ms)
    if as_json:
        for line in lines:
            emit(line)
        return
    names = {key: project.name for key, project in active_projects(state.store).items()} if by == "project" else {}
    headings = (by, "calls", "tokens in", "out", "cost", "errors", "retries", "fallbacks", "p50 ms", "p95 ms")
    table(headings, [_row(line, names) for line in lines], empty="No model was called yet.")
    if presumed := _presumed(lines):
        print_line(
            f"Requests that were sent and not answered may have cost up to {presumed} more; the caps count them."
        )
    if lines:
        today, budget = spent(state.store), state.settings.budget
        print_line(
            f"Today: ${today.usd:.4f} of ${budget.per_day_usd:g}; {today.tokens:,} of "
            f"{budget.per_day_unpriced_tokens:,.0f} tokens without a known price ([budget] in config.toml)."
        )


def _row(line: UsageLine, names: dict[str, str]) -> tuple[object, ...]:
    key = "(none)" if line.key is None else names.get(line.key, line.key)
    return (
        key,
        line.calls,
        f"{line.tokens_in:,}",
        f"{line.tokens_out:,}",
        _cost(line),
        line.errors,
        line.retries,
        line.fallbacks,
        line.p50_ms,
        line.p95_ms,
    )


def _presumed(lines: list[UsageLine]) -> str:
    usd, tokens = sum(line.presumed_usd for line in lines), sum(line.presumed_tokens for line in lines)
    parts = [f"${usd:.4f}"] * (usd > 0) + [f"{tokens:,} tokens without a known price"] * (tokens > 0)
    return " and ".join(parts)


def _cost(line: UsageLine) -> str:
    if line.cost_usd is None:
        return "unknown" if line.calls else ""
    return f"${line.cost_usd:.4f}" + (f" + {line.unpriced_calls} calls unknown" if line.unpriced_calls else "")
