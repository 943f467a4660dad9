"""Following a job by the log: progress on stderr, the result on stdout, the right exit code."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lerim_jobs.cli.output import coloured, emit, note, print_line, table
from lerim_jobs.cli.state import State
from lerim_jobs.errors import EXIT_DONE, EXIT_FAILED, EXIT_PARKED, EXIT_PARTIAL, WaitTimeout
from lerim_jobs.jobs.line import JOBS, JobLine
from lerim_jobs.jobs.pausing import paused, why
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.kinds import stage_of
from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.events import (
    JobFinished,
    JobPaused,
    JobResumed,
    SessionIndexed,
    StageCompleted,
    StageFailed,
    StageQuarantined,
    TraceClosed,
)
from lerim_jobs.log.projection import find
from lerim_jobs.memory import wording
from lerim_jobs.tracing.names import stage_title

if TYPE_CHECKING:
    from lerim_jobs.machine.processes import TemporaryWorker

__all__ = ["follow", "show_result"]

_CLOSING_S = 5.0
_PROGRESS = {"StageCompleted", "StageQuarantined"}
"""Events after which a command's worker may die as often again: each of them is an end of something."""
_RESTARTS = 5


def follow(
    state: State,
    job_id: str,
    *,
    timeout_s: float | None = None,
    worker: TemporaryWorker | None = None,
    after: int = 0,
) -> JobLine:
    """Show progress until the job has ended and its trace is closed, or is parked. Raises WaitTimeout.

    `after` is the version of the job's stream that was seen before.
    """
    deadline = time.monotonic() + timeout_s if timeout_s is not None else None
    ended_at: float | None = None
    version, restarts, held_by = after, 0, ""
    with _progress() as show:
        while True:
            rows = state.store.read(job_stream(job_id), version)
            for row in rows:
                version = row.version
                _tell(row, show)
                ended_at = time.monotonic() if row.type == JobFinished.__name__ else ended_at
                restarts = 0 if row.type in _PROGRESS else restarts
            if ended_at is None and rows and _is_parked(state, job_id):
                break
            if any(row.type == TraceClosed.__name__ for row in rows) or _overdue(ended_at):
                break
            if ended_at is None and deadline is not None and time.monotonic() > deadline:
                raise WaitTimeout(f"stopped waiting for {job_id}; it goes on: `lerim jobs watch {job_id}`")
            if worker and worker.died and ended_at is None:
                restarts += 1
                _restart(worker, restarts, state)
            if not rows:
                held_by = _say_held(state, job_id, held_by, show)
                time.sleep(0.03)
    line = find(state.store, JOBS, job_id)
    assert line is not None
    return line


def _say_held(state: State, job_id: str, said: str, show: Callable[[str], None]) -> str:
    """Say once that a paused queue keeps the job waiting; returns what was said last."""
    held = paused(state.store)
    waiting = [one.queue for one in state.store.count_stages(job_id) if one.state == "ready"] if held else []
    keys = {key for queue in waiting if (key := why(held, job_id, queue))}
    queues = ", ".join(sorted(key.partition("/")[2] for key in keys if key.startswith("queue/")))
    if queues and queues != said:
        show(f"paused: queue {queues}; `lerim jobs resume --queue` or `--all` goes on".replace("queue *", "everything"))
    return queues


def _is_parked(state: State, job_id: str) -> bool:
    """Nothing of the job runs or may start before something happens from outside."""
    line = find(state.store, JOBS, job_id)
    if line is None or not line.parked:
        return False
    counts = Counter[str]()
    for one in state.store.count_stages(job_id):
        counts[one.state if one.due else "later"] += one.stages
    return not counts["running"] and not counts["ready"]


def show_result(state: State, line: JobLine, *, as_json: bool) -> int:
    """Print how the job ended and return the exit code."""
    if as_json:
        about = {"job_id": line.job_id, "kind": line.kind, "status": line.status, "trace_id": line.trace_id}
        emit(
            {
                **about,
                **_so_far(line),
                **line.result,
                "error": line.error or (line.last_error if line.parked else None),
            }
        )
    elif line.parked:
        print_line(f"{line.kind.capitalize()} parked: {line.last_error}")
        print_line(
            f"What is done is kept; it goes on by itself while workers run, or with: lerim jobs resume {line.job_id}"
        )
    elif line.result.get("answer"):
        _print_answer(state, line)
    else:
        _print_counts(line)
    if line.sampled and not as_json:
        print_line(f"Trace: lerim trace show {line.job_id}")
    return _EXIT_CODES.get(line.status, EXIT_FAILED)


_EXIT_CODES = {"succeeded": EXIT_DONE, "partial": EXIT_PARTIAL, "parked": EXIT_PARKED}


def _so_far(line: JobLine) -> dict[str, Any]:
    """What an unfinished job has used."""
    return {
        "model_calls": line.usage.calls,
        "tokens_in": line.usage.tokens_in,
        "tokens_out": line.usage.tokens_out,
        "cost_usd": line.usage.cost_usd,
        "unpriced_calls": line.usage.unpriced_calls,
    }


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """A line that is rewritten on a terminal, plain lines elsewhere."""
    if not coloured(sys.stderr):
        yield note
        return
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("asked for; waiting for a worker") as status:
        yield lambda text: status.update(text)


def _tell(row: Recorded, show: Callable[[str], None]) -> None:
    match row.event:
        case StageCompleted() as event:
            show(f"{stage_title(event.stage)}: {stage_of(event.stage).says(event.stage, event.output)}")
        case StageFailed() as event if event.code != "handed_back":
            later = "trying again" if event.retry_at_ms else "giving up"
            later = "parked" if event.code == "parked" else later
            show(f"{stage_title(event.stage)}: {event.error_type}: {event.message or event.code}; {later}")
        case StageQuarantined() as event:
            show(f"{stage_title(event.stage)}: given up after {event.attempts} attempts: {event.reason}")
        case JobPaused():
            show("paused: running stages finish, nothing else starts")
        case JobResumed():
            show("going on")
        case JobFinished() as event if event.status == "cancelled":
            show("cancelled")
        case SessionIndexed() | _:
            pass


def _overdue(ended_at: float | None) -> bool:
    return ended_at is not None and time.monotonic() - ended_at > _CLOSING_S


def _restart(worker: TemporaryWorker, restarts: int, state: State) -> None:
    from lerim_jobs.errors import QueueUnavailable

    if restarts > _RESTARTS:
        raise QueueUnavailable(f"the worker died {_RESTARTS} times: see {str(state.home.logs / 'worker.log')!r}")
    note("The worker died; starting another one, finished stages are not repeated.")
    worker.restart()


def _print_answer(state: State, line: JobLine) -> None:
    from lerim_jobs.memory.stored import load_memories

    print_line(str(line.result["answer"]))
    cited = line.result.get("citations", [])
    if cited:
        titles = {one.memory_id: one.title for one in load_memories(state.store, cited)}
        print_line()
        for memory_id in cited:
            print_line(f"[{memory_id}] {titles.get(memory_id, '')}")


def _print_counts(line: JobLine) -> None:
    result: dict[str, Any] = line.result
    dry = " (dry run: nothing was kept)" if result.get("dry_run") else ""
    done = "" if "answer" in result else f": {_counted(result.get('memories', {})) or 'nothing changed'}"
    print_line(f"{line.kind.capitalize()} {line.status}{dry}{done}")
    if sessions := result.get("sessions"):
        print_line(f"Sessions: {_counted(sessions) or 'none found'}")
        reasons = {**result.get("skipped_reasons", {}), **result.get("left", {})}
        for reason, count in reasons.items():
            print_line(f"  {count} x {reason}")
    for one in result.get("files", {}).get("problems", ()):
        print_line(f"  {one['path']}: {one['problem']}")
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
    if line.error:
        note(f"{line.kind} {line.status}: {line.error}")


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
