"""A job that is waited for: progress on stderr, the result on stdout, the right exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from lerim_jobs.api.following import Steps, drained
from lerim_jobs.api.results import Job, Progress
from lerim_jobs.api.state import State
from lerim_jobs.cli.output import coloured, emit, note, print_line, table
from lerim_jobs.errors import EXIT_DONE, EXIT_FAILED, EXIT_PARKED, EXIT_PARTIAL
from lerim_jobs.memory import wording

__all__ = ["follow", "print_asked", "show_result", "showing"]


def follow(steps: Steps) -> Job:
    """Show each step, give back how the job ended."""
    with showing() as show:
        return drained(steps, show)


@contextmanager
def showing() -> Iterator[Callable[[Progress], None]]:
    """A line that is rewritten on a terminal, plain lines elsewhere."""
    if not coloured(sys.stderr):
        yield lambda step: note(step.text)
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("asked for; waiting for a worker") as status:
        yield lambda step: status.update(step.text)


def print_asked(job: Job, *, as_json: bool) -> int:
    """A job that was only asked for: its id, and what it waits for."""
    if as_json:
        emit({"job_id": job.job_id})
    else:
        print_line(job.job_id)
    if job.waits_for:
        note(f"The job waits for {job.waits_for}.")
    return EXIT_DONE


def show_result(state: State, job: Job, *, as_json: bool) -> int:
    """Print how the job ended and return the exit code."""
    if as_json:
        about = {name: getattr(job, name) for name in _ALWAYS}
        emit({**about, **job.result, "error": job.error or (job.last_error if job.parked else None)})
    elif job.parked:
        print_line(f"{job.kind.capitalize()} parked: {job.last_error}")
        print_line(
            f"What is done is kept; it goes on by itself while workers run, or with: lerim jobs resume {job.job_id}"
        )
    elif job.answer:
        _print_answer(state, job)
    else:
        _print_counts(job)
    if job.traced and not as_json:
        print_line(f"Trace: lerim trace show {job.job_id}")
    return _EXIT_CODES.get(job.status, EXIT_FAILED)


_ALWAYS = (
    *("job_id", "kind", "status", "trace_id"),
    *("model_calls", "tokens_in", "tokens_out", "cost_usd", "unpriced_calls"),
)
"""What `--json` says of every job; an unfinished one has no result, but has used this much."""

_EXIT_CODES = {"succeeded": EXIT_DONE, "partial": EXIT_PARTIAL, "parked": EXIT_PARKED}


def _print_answer(state: State, job: Job) -> None:
    from lerim_jobs.memory.stored import load_memories

    print_line(str(job.answer))
    titles = {one.memory_id: one.title for one in load_memories(state.store, job.citations)}
    if job.citations:
        print_line()
    for memory_id in job.citations:
        print_line(f"[{memory_id}] {titles.get(memory_id, '')}")


def _print_counts(job: Job) -> None:
    result: dict[str, Any] = job.result
    dry = " (dry run: nothing was kept)" if result.get("dry_run") else ""
    done = "" if "answer" in result else f": {_counted(result.get('memories', {})) or 'nothing changed'}"
    print_line(f"{job.kind.capitalize()} {job.status}{dry}{done}")
    if sessions := result.get("sessions"):
        print_line(f"Sessions: {_counted(sessions) or 'none found'}")
        reasons = {**result.get("skipped_reasons", {}), **result.get("left", {})}
        for reason, count in reasons.items():
            print_line(f"  {count} x {reason}")
    _print_problems(result)
    for one in result.get("proposals", ()) if result.get("dry_run") else ():
        print_line(f"  {one['action']}: {one['title']} ({one['reason']})")
    if result.get("dry_run"):
        _print_plan(result.get("proposals", ()))
    if result.get("left_for_later"):
        print_line(f"{result['left_for_later']} memories are left for the next run.")
    for lost in result.get("lost_stages", ()):
        print_line(f"  lost: {lost['stage']}: {lost['reason']}")
    if result.get("model_calls"):
        print_line(f"Models: {_spent(result)}")
    if job.error:
        note(f"{job.kind} {job.status}: {job.error}")


def _print_problems(result: dict[str, Any]) -> None:
    """What a person should look at."""
    for one in result.get("gone", ()):
        print_line(f"  the folder of project {one['name']!r} is gone: {one['path']}")
        print_line(f"    if it was moved: lerim project move {one['name']} {one['moved_to'] or 'NEW_PATH'}")
    for one in result.get("wrong", ()):
        print_line(f"  project {one['name']!r} was left alone: {one['problem']}")
    for one in result.get("files", {}).get("problems", ()):
        print_line(f"  {one['path']}: {one['problem']}")


def _print_plan(proposals: Iterable[dict[str, Any]]) -> None:
    """What would be done, a row each; what the checks refuse says why."""
    rows = [
        (
            one["action"],
            (one.get("memory_id") or "")[:8],
            wording.line(one["title"], limit=60),
            ", ".join(memory_id[:8] for memory_id in one.get("absorbs") or ()),
            wording.line(f"refused: {one['refused']}" if one.get("refused") else one["reason"], limit=90),
        )
        for one in proposals
    ]
    table(("action", "memory", "title", "with", "reason"), rows, empty="Nothing would be changed.")


def _counted(counts: dict[str, Any]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _spent(result: dict[str, Any]) -> str:
    cost = "cost unknown" if result["unpriced_calls"] else f"${result['cost_usd']:.4f}"
    replayed = f" ({result['replayed_calls']} more replayed for free)" if result.get("replayed_calls") else ""
    return f"{result['model_calls']} calls{replayed}, {result['tokens_in']} + {result['tokens_out']} tokens, {cost}"
