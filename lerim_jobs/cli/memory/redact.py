"""`lerim memory redact`: removing what was said from everything that is stored."""

from __future__ import annotations

import sys

import click
import msgspec

from lerim_jobs.api.state import find_memory
from lerim_jobs.cli.memory.history import publish_quietly
from lerim_jobs.cli.output import emit, json_option, note, print_line
from lerim_jobs.cli.state import open_state
from lerim_jobs.errors import EXIT_DONE, EXIT_PARTIAL, BadInput

__all__ = ["redact_command"]


@click.command("redact")
@click.argument("memory_id", required=False)
@click.option("--pattern", help="Remove everything this regular expression matches instead.")
@click.option("--dry-run", is_flag=True, help="Show how much would be removed and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def redact_command(memory_id: str | None, pattern: str | None, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Remove what the memory MEMORY_ID ever said, or what a pattern matches, from everything that is stored.

    From the log, transcripts, model answers, spans, the search index, logs and files. This cannot be undone.
    Exit code 3 when something is left that could not be removed.
    """
    from lerim_jobs.redaction.redact import Redaction

    if (memory_id is None) == (pattern is None):
        raise BadInput("name a memory or give --pattern, one of them")
    state = open_state()
    full_id = find_memory(state, memory_id).memory_id if memory_id else None
    if full_id:
        redaction = Redaction.of_memory(state.store, state.home, full_id)
    else:
        redaction = Redaction.of_pattern(state.store, state.home, pattern or "")
    about = {"memory_id": full_id, "dry_run": dry_run}
    asks = not (yes or dry_run or as_json) and sys.stdin.isatty()
    if dry_run or asks:
        counted = redaction.count()
        if as_json:
            emit({**about, **msgspec.to_builtins(counted)})
        else:
            print_line(
                f"{counted.hits} pieces of text in {counted.events} events and {counted.blobs} blobs of the log."
            )
        if dry_run or not click.confirm("Remove them for good, there and everywhere else?", default=False):
            return EXIT_DONE
    removed = redaction.apply(lambda projects: publish_quietly(state, projects))
    if as_json:
        emit({**about, **msgspec.to_builtins(removed)})
    else:
        print_line(
            f"Removed {removed.hits} pieces of text: {removed.events} events, {removed.blobs} blobs, {removed.spans} spans "
            f"and {removed.files} other files changed."
        )
    for left in removed.left:
        note(f"{left.path}: {left.hits} pieces are still there{left.why and f', and {left.why}'}")
    if removed.kept:
        note(f"{removed.kept} pieces stand in ids or names of folders and were kept.")
    return EXIT_PARTIAL if removed.left or removed.kept else EXIT_DONE
