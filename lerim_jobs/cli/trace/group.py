"""`lerim trace`: a job as one tree of spans, and where spans go."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from lerim_jobs.api.state import State, find_job, project_here, spans_of
from lerim_jobs.cli.output import age, coloured, emit, json_option, note, print_line, table
from lerim_jobs.cli.state import open_state
from lerim_jobs.clock import iso, now_ns
from lerim_jobs.config import load_with_sources
from lerim_jobs.errors import BadInput
from lerim_jobs.jobs.line import JOBS
from lerim_jobs.log.projection import fold_all
from lerim_jobs.machine.processes import workers_running
from lerim_jobs.tracing.export.forward import destinations
from lerim_jobs.tracing.local.store import SpanStore
from lerim_jobs.tracing.policy import warnings
from lerim_jobs.tracing.propagation import sdk_disabled
from lerim_jobs.tracing.skeleton.record import to_json

__all__ = ["trace"]

_STYLES = {"dim": "bright_black", "ok": "green", "error": "red", "running": "yellow"}


@click.group()
def trace() -> None:
    """Look at the traces of jobs, and where they go."""


@trace.command()
@click.argument("job_id")
@click.option("--content", "with_content", is_flag=True, help="Prompts, answers, tool arguments and results as well.")
@click.option("--errors", is_flag=True, help="Only what failed, and what it is part of.")
@click.option("--slow", is_flag=True, help="The ten slowest spans that nothing below them explains.")
@click.option("--unfold", is_flag=True, help="Show long repetitions in full.")
@json_option
def show(job_id: str, with_content: bool, errors: bool, slow: bool, unfold: bool, as_json: bool) -> None:
    """Draw the job JOB_ID as a tree: stages, attempts, model calls, tools."""
    from lerim_jobs.tracing.local.render import failed_only, plain, render, slowest

    state = open_state()
    line = find_job(state, job_id)
    spans = spans_of(state, job_id, line.trace_id)
    if errors:
        spans = failed_only(spans)
    if as_json:
        for span in spans:
            emit(to_json(span))
        return
    if not line.sampled:
        note("Tracing was off for this job: this is its timeline from the log, without model calls and tools.")
        note("LERIM_TRACING=1 in front of a command traces its job.")
    if errors and not spans:
        print_line("Nothing failed.")
    if slow:
        table(("span", "time", "share"), slowest(spans, 10), empty="There are no finished spans.")
        return
    style = _styled if coloured(sys.stdout) else plain
    for text in render(spans, now_ns=now_ns(), style=style, unfold=unfold, with_content=with_content):
        print_line(text)


@trace.command("list")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many at most.")
@json_option
def list_traces(limit: int, as_json: bool) -> None:
    """Show the newest traced jobs first."""
    state = open_state()
    lines = sorted(fold_all(state.store, JOBS).values(), key=lambda line: line.requested_ms, reverse=True)
    spans = SpanStore(state.home.traces)
    rows = []
    for line in [one for one in lines if one.sampled][:limit]:
        count = len(spans.of_trace(line.trace_id))
        took = (line.finished_ms - line.requested_ms) / 1000 if line.finished_ms else None
        tokens = line.usage.tokens_in + line.usage.tokens_out
        if as_json:
            about = {"job_id": line.job_id, "trace_id": line.trace_id, "kind": line.kind, "status": line.status}
            emit(
                {**about, "requested_at": iso(line.requested_ms), "duration_s": took, "spans": count, "tokens": tokens}
            )
        shown = f"{took:.1f} s" if took is not None else ""
        rows.append((line.job_id, line.kind, line.status, age(line.requested_ms), shown, count, f"{tokens:,}"))
    if not as_json:
        headings = ("job", "kind", "status", "asked", "took", "spans", "tokens")
        table(headings, rows, empty="No job was traced yet: LERIM_TRACING=1 in front of a command traces its job.")


@trace.command("open")
@click.argument("job_id")
@json_option
def open_trace(job_id: str, as_json: bool) -> None:
    """Print the link to the trace of JOB_ID in your backend, and open it on a terminal."""
    state = open_state()
    line = find_job(state, job_id)
    link = _link(state, line.trace_id)
    if as_json:
        emit({"job_id": job_id, "trace_id": line.trace_id, "url": link})
        return
    print_line(link)
    if sys.stdout.isatty():
        click.launch(link)


@trace.command()
@click.argument("job_id")
@click.option(
    "--otlp", "file", required=True, help="The file to write: OTLP protobuf, OTLP/JSON when it ends in .json."
)
@json_option
def export(job_id: str, file: str, as_json: bool) -> None:
    """Write the trace of JOB_ID to a file that any OTLP receiver takes."""
    from lerim_jobs.tracing.export.otlp_file import write

    state = open_state()
    line = find_job(state, job_id)
    count = write(spans_of(state, job_id, line.trace_id), Path(file).expanduser())
    if as_json:
        emit({"job_id": job_id, "trace_id": line.trace_id, "spans": count, "file": file})
    else:
        print_line(f"{count} spans of trace {line.trace_id} written to {file}")


@trace.command()
@json_option
def status(as_json: bool) -> None:
    """Show the effective settings and where each came from, here and in the running workers."""
    state = open_state()
    found = _status(state)
    if as_json:
        emit(found)
        return
    rows = [(key, _shown(one["value"]), one["from"]) for key, one in found["settings"].items()]
    table(("setting", "value", "from"), rows, empty="")
    print_line(f"Jobs asked for here are {'traced' if found['traces'] else 'not traced'}.")
    print_line(f"Spans go to: {', '.join(['the local store', *found['backends']])}")
    workers = [
        (one["pid"], "on" if one["tracing"] else "off", one["from"], ", ".join(one["backends"]) or "local store only")
        for one in found["workers"]
    ]
    table(("worker", "tracing", "from", "sends to"), workers, empty="No worker is running.")
    for line in found["warnings"]:
        note(line)


def _status(state: State) -> dict[str, Any]:
    project = project_here(state)
    settings, sources = load_with_sources(state.env, project=Path(project.path) if project else None)
    tracing = settings.tracing
    shown: dict[str, dict[str, Any]] = {}
    for key in ("enabled", "include_httpx", "include_content", "ui_url"):
        shown[key] = {"value": getattr(tracing, key), "from": sources.get(f"tracing.{key}", "default")}
    for variable in sorted(state.env):
        if variable.startswith("OTEL_") or variable in ("LOGFIRE_TOKEN", "LOGFIRE_BASE_URL"):
            is_secret = "TOKEN" in variable or "HEADERS" in variable
            place = "environment" if variable in os.environ else str(state.home.env_file)
            shown[variable] = {"value": "set" if is_secret else state.env[variable], "from": place}
    return {
        "traces": tracing.enabled and not sdk_disabled(state.env),
        "settings": shown,
        "backends": destinations(state.env),
        "workers": [
            {
                "pid": one.pid,
                "host": one.host,
                "tracing": one.tracing,
                "from": one.tracing_from,
                "backends": one.backends,
            }
            for one in workers_running(state.home)
        ],
        "warnings": warnings(settings, state.env),
    }


def _link(state: State, trace_id: str) -> str:
    template = state.settings.tracing.ui_url
    if template:
        return template.replace("{trace_id}", trace_id)
    raise BadInput(
        "there is no address to open: set [tracing] ui_url in config.toml, with {trace_id} where it belongs, for example "
        'ui_url = "http://localhost:16686/trace/{trace_id}" for Jaeger or your Logfire project\'s '
        '"https://logfire-eu.pydantic.dev/ORGANIZATION/PROJECT?q=trace_id%3D%27{trace_id}%27"'
    )


def _shown(value: object) -> str:
    return (
        {True: "true", False: "false", "": "-"}.get(value, str(value)) if isinstance(value, bool | str) else str(value)
    )


def _styled(part: str, text: str) -> str:
    return click.style(text, fg=_STYLES[part]) if part in _STYLES else text
