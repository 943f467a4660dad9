"""`lerim memory history`, `memory undo` and `jobs undo`: what happened to memories, and taking it back."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any

import click
import msgspec

from lerim_jobs.api.state import State, find_job, find_memory
from lerim_jobs.cli.output import emit, json_option, note, print_line, table
from lerim_jobs.cli.state import open_state
from lerim_jobs.clock import iso
from lerim_jobs.errors import EXIT_DONE, EXIT_PARTIAL, BadInput, JobsError
from lerim_jobs.memory.history.undo import Undo, UndoPlan, of_job, of_memory, undo
from lerim_jobs.memory.stored import memory_stream

__all__ = ["history_command", "publish_quietly", "undo_job", "undo_memory"]


@click.command("history")
@click.argument("memory_id")
@json_option
def history_command(memory_id: str, as_json: bool) -> None:
    """Show everything that happened to the memory MEMORY_ID."""
    from lerim_jobs.memory.history.told import history

    state = open_state()
    full_id = find_memory(state, memory_id).memory_id
    for change in history(state.store.read(memory_stream(full_id))):
        if as_json:
            about: dict[str, Any] = msgspec.to_builtins(change)
            emit({"memory_id": full_id, "at": iso(about.pop("at_ms")), **about})
            continue
        print_line(f"{change.version:>3}  {iso(change.at_ms)}  {change.what}")
        for detail in change.details:
            print_line(f"     {detail}")
        who = f"{change.by}, model {change.model}" if change.model else change.by
        print_line(f"     by {who}{f': {change.reason}' if change.reason else ''}")
        for key, value in (("trace", change.trace_id), ("span", change.span_id), ("undo", change.undo_id)):
            if value:
                print_line(f"     {key} {value}")


@click.command("undo")
@click.argument("memory_id")
@click.option("--to", "to_version", type=click.IntRange(0), help="Back to this version. [default: the one before]")
@json_option
def undo_memory(memory_id: str, to_version: int | None, as_json: bool) -> int:
    """Take the last change of the memory MEMORY_ID back; a second undo takes the undo back.

    Undoing a merge at the memory that survived brings those back that went into it.
    """
    state = open_state()
    one = find_memory(state, memory_id)
    publish_quietly(state, [one.project_id])
    return _undo(
        state, lambda: of_memory(state.store, one.memory_id, to_version=to_version), dry_run=False, as_json=as_json
    )


@click.command("undo")
@click.argument("job_id")
@click.option("--dry-run", is_flag=True, help="Show what would be undone and change nothing.")
@json_option
def undo_job(job_id: str, dry_run: bool, as_json: bool) -> int:
    """Take every memory change of the job JOB_ID back, or of an undo by its id.

    What somebody changed after the job is left alone and listed; then the exit code is 3.
    """
    state = open_state()
    if not job_id.startswith("undo-"):
        line = find_job(state, job_id)
        if line.finished_ms is None:
            raise BadInput(f"job {job_id!r} is {line.status}: it can be undone when it has ended")
    touched = {one.project_id for one in of_job(state.store, job_id).lines}
    if not dry_run:
        # A hand edit nobody has read yet is a change by somebody else.
        publish_quietly(state, touched)
    return _undo(state, lambda: of_job(state.store, job_id), dry_run=dry_run, as_json=as_json)


def publish_quietly(state: State, project_ids: Iterable[str]) -> None:
    """Bring the files of these projects up to date; a folder that is not there is said, and stops nothing."""
    from lerim_jobs.memory.files.publishing import publish_now

    for project_id in project_ids:
        try:
            output = publish_now(state.store, project_id, meta={"actor": "cli"})
        except JobsError as exc:
            note(f"The files were not brought up to date: {exc}")
            continue
        for problem in output["problems"]:
            note(f"{problem['path']}: {problem['problem']}")


def _undo(state: State, plan: Callable[[], UndoPlan], *, dry_run: bool, as_json: bool) -> int:
    undo_id = f"undo-{secrets.token_hex(6)}"
    made = plan() if dry_run else undo(state.store, plan, meta={"actor": "cli", "undo_id": undo_id})
    if made.effects and not dry_run:
        publish_quietly(state, dict.fromkeys(line.project_id for line in made.lines if line.outcome == "undone"))
    _show(made.lines, undo_id if made.effects and not dry_run else None, dry_run=dry_run, as_json=as_json)
    return EXIT_PARTIAL if any(line.outcome == "conflict" for line in made.lines) else EXIT_DONE


def _show(lines: list[Undo], undo_id: str | None, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        for line in lines:
            emit({**msgspec.to_builtins(line), "undo_id": undo_id, "dry_run": dry_run})
        return
    rows = [
        (
            line.memory_id[:8],
            "would be undone" if dry_run and line.outcome == "undone" else line.outcome,
            f"{line.version} -> {line.to_version}" if line.outcome == "undone" else "",
            line.reason,
            line.title,
        )
        for line in lines
    ]
    table(("id", "outcome", "version", "", "title"), rows, empty="There is no change of a memory to undo.")
    if undo_id:
        note(f"Taken back by mistake? `lerim jobs undo {undo_id}` takes this back.")
