"""`lerim demo`: the real thing on bundled sessions, in a sandbox, without a key and without a network."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import click

from lerim_jobs import ids
from lerim_jobs.api.state import State, spans_of
from lerim_jobs.cli.output import emit, json_option, note, print_line
from lerim_jobs.cli.state import open_lerim
from lerim_jobs.errors import EXIT_FAILED
from lerim_jobs.jobs.line import JOBS, JobLine
from lerim_jobs.log.events import ProjectAdded
from lerim_jobs.log.projection import fold_all
from lerim_jobs.machine.identity import host_name
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.stored import all_memories
from lerim_jobs.projects import project_stream

__all__ = ["demo"]


@click.command()
@click.option("--keep", is_flag=True, help="Keep the sandbox and say where it is.")
@json_option
def demo(keep: bool, as_json: bool) -> int:
    """Sync three sample sessions with the offline model and show memories, counts and the trace."""
    from lerim_jobs.cli.jobs.follow import show_result, showing

    folder = Path(tempfile.mkdtemp(prefix="lerim-demo-"))
    try:
        with _environment(folder):
            project = _project(folder)
            lerim = open_lerim()
            state = lerim.state
            project_id = ids.derived("project", host_name(), str(project))
            added = ProjectAdded(project_id, project.name, str(project), host_name())
            state.store.append(project_stream(project_id), [added], expected=0)
            if not as_json:
                print_line("Three sessions of a lamp shop, read by the offline model (rules, no key, no network):\n")
            with showing() as show:
                job = lerim.sync(window="all", timeout_s=60, on_progress=show)
            code = show_result(state, job, as_json=as_json)
            healthy = _show(state, as_json=as_json)
            return code if healthy else EXIT_FAILED
    finally:
        if keep:
            note(f"The sandbox is kept: LERIM_HOME={folder / 'home'}, project {folder / 'lamp-shop'}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """Point this process, and the worker it starts, at the sandbox."""
    before = dict(os.environ)
    home = folder / "home"
    os.environ.update(
        HOME=str(folder),
        LERIM_HOME=str(home),
        LERIM_PROVIDER="offline",
        LERIM_TRACING="1",
        CLAUDE_CONFIG_DIR=str(folder / "claude"),
        CODEX_HOME=str(folder / "codex"),
    )
    for name in ("LERIM_REDIS_URL", "OTEL_TRACES_SAMPLER", "OTEL_SDK_DISABLED"):
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _project(folder: Path) -> Path:
    project = (folder / "lamp-shop").resolve()
    project.mkdir()
    places = {"claude": folder / "claude" / "projects" / "lamp-shop", "codex": folder / "codex" / "sessions" / "2026"}
    for sample in resources.files("lerim_jobs.samples").iterdir():
        agent, _, name = sample.name.partition("-")
        if agent in places:
            places[agent].mkdir(parents=True, exist_ok=True)
            quoted = json.dumps(str(project))[1:-1]
            target = places[agent] / (f"rollout-{name}" if agent == "codex" else name)
            target.write_text(sample.read_text("utf-8").replace("{project}", quoted), "utf-8")
    return project


def _show(state: State, *, as_json: bool) -> bool:
    """Memories with their proof, then the trace; False when the trace is not whole."""
    from lerim_jobs.clock import now_ns
    from lerim_jobs.tracing.local.render import render
    from lerim_jobs.tracing.local.tree import check

    line: JobLine = next(iter(fold_all(state.store, JOBS).values()))
    spans = spans_of(state, line.job_id, line.trace_id)
    health = check(spans)
    memories = [one for one in all_memories(state.store).values() if one.status == "active" and one.kind != "summary"]
    if as_json:
        emit({"memories": len(memories), "spans": len(spans), "roots": health.roots, "orphans": health.orphans})
        return health.ok
    print_line(f"\n{len(memories)} memories, each with the sentence that proves it:\n")
    for memory in sorted(memories, key=lambda one: (one.kind, one.title)):
        _print_memory(memory)
    print_line("The trace of this sync (lerim trace show):\n")
    for text in render(spans, now_ns=now_ns()):
        print_line(text)
    print_line(f"\n{len(spans)} spans, {health.roots} root, {health.orphans} orphans. Nothing is left running.")
    return health.ok


def _print_memory(memory: Memory) -> None:
    print_line(f"  {memory.kind}: {memory.title}  [{memory.memory_id[:8]}, confidence {memory.confidence:.2f}]")
    for quote in memory.quotes:
        print_line(
            f'    "{quote.text}"  ({quote.speaker} in {quote.agent} session {quote.session_id[:8]}, turn {quote.turn})'
        )
    print_line()
