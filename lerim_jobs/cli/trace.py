"""`lerim trace`: the job as one tree of spans."""

from __future__ import annotations

import sys

import click

from lerim_jobs.cli.jobs import existing
from lerim_jobs.cli.output import coloured, emit, json_option, note, print_line
from lerim_jobs.cli.state import State, open_state
from lerim_jobs.clock import now_ns
from lerim_jobs.jobs.settlement import job_stream
from lerim_jobs.tracing.record import SpanRecord, to_json
from lerim_jobs.tracing.skeleton import skeleton
from lerim_jobs.tracing.spans import SpanStore
from lerim_jobs.tracing.tree import merge

__all__ = ["spans_of", "trace"]

_STYLES = {"dim": "bright_black", "ok": "green", "error": "red", "running": "yellow"}


@click.group()
def trace() -> None:
    """Look at the trace of a job."""


@trace.command()
@click.argument("job_id")
@click.option("--unfold", is_flag=True, help="Show long repetitions in full.")
@json_option
def show(job_id: str, unfold: bool, as_json: bool) -> None:
    """Draw the job JOB_ID as a tree: stages, attempts, model calls, tools."""
    from lerim_jobs.tracing.render import plain, render

    state = open_state()
    line = existing(state, job_id)
    spans = spans_of(state, job_id, line.trace_id)
    if as_json:
        for span in spans:
            emit(to_json(span))
        return
    if not line.sampled:
        note("Tracing was off for this job: this is its timeline from the log, without model calls and tools.")
        note("LERIM_TRACING=1 in front of a command traces its job.")
    style = _styled if coloured(sys.stdout) else plain
    for text in render(spans, now_ns=now_ns(), style=style, unfold=unfold):
        print_line(text)


def spans_of(state: State, job_id: str, trace_id: str) -> list[SpanRecord]:
    """The skeleton from the log and what was recorded below it on this machine."""
    bones = skeleton(state.store.read(job_stream(job_id)))
    return merge(bones, SpanStore(state.home.traces).of_trace(trace_id))


def _styled(part: str, text: str) -> str:
    return click.style(text, fg=_STYLES[part]) if part in _STYLES else text
