"""`lerim audit`: the six zeros, each with what it was checked against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lerim_jobs.cli.output import emit, json_option, print_line, table
from lerim_jobs.cli.state import open_state
from lerim_jobs.errors import EXIT_DONE, EXIT_FAILED

if TYPE_CHECKING:
    from lerim_jobs.audit.audit import Audit

__all__ = ["audit", "show"]

_SHOWN = 10


@click.command()
@json_option
def audit(as_json: bool) -> int:
    """Check what is promised: nothing paid twice, lost, split, unproved, overspent or left behind.

    Reads only, and may run while workers do. Exit code 1 when anything is not zero.
    """
    from lerim_jobs.audit.audit import audit as look
    from lerim_jobs.audit.audit import to_json

    state = open_state()
    found = look(state.home, state.store, state.settings, state.env)
    if as_json:
        emit(to_json(found))
    else:
        show(found)
    return EXIT_DONE if found.ok else EXIT_FAILED


def show(found: Audit) -> None:
    """The table, then every breach with what to do."""
    rows = [(zero.name.replace("_", " "), len(zero.breaches), _counts(zero.checked)) for zero in found.zeros]
    table(("promise", "breaches", "checked against"), rows, empty="")
    for zero in found.zeros:
        if zero.also and any(zero.also.values()):
            print_line(f"{zero.name.replace('_', ' ')}, beside it: {_counts(zero.also)}")
    for zero in found.zeros:
        if not zero.breaches:
            continue
        print_line(f"\n{zero.name.replace('_', ' ')}: {zero.advice}")
        for breach in zero.breaches[:_SHOWN]:
            print_line(f"  {breach.id}: {breach.what}")
        if len(zero.breaches) > _SHOWN:
            print_line(f"  … and {len(zero.breaches) - _SHOWN} more: --json has them all")


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(
        f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if count or ":" not in name
    )
