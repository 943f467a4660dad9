"""`lerim doctor`: what is wrong here, and what to do about it."""

from __future__ import annotations

import click
import msgspec

from lerim_jobs.cli.output import emit, json_option, print_line, table
from lerim_jobs.errors import EXIT_DONE, EXIT_FAILED

__all__ = ["doctor"]


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Examine the installation: what is wrong, and the next step. Changes nothing; exit code 1 when there is a problem."""
    from lerim_jobs import config
    from lerim_jobs.care.doctor import examine

    found = examine(config.environment())
    problems = sum(one.status == "problem" for one in found)
    if as_json:
        emit({"ok": not problems, "checks": msgspec.to_builtins(found)})
    else:
        marks = {"ok": "ok", "warning": "look", "problem": "WRONG"}
        table(("", "check", "what"), [(marks[one.status], one.check, one.what) for one in found], empty="")
        steps = [one for one in found if one.next]
        if steps:
            print_line()
            table(("check", "next step"), [(one.check, one.next) for one in steps], empty="")
    return EXIT_FAILED if problems else EXIT_DONE
