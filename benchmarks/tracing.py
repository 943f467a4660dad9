"""What tracing adds to a stage: the same worker runs jobs with and without it in turn, as a caller may decide for each.

Spans go to the local store and to a collector in a process of its own. A no-op stage is an index that finds nothing; a stage of
1 s asks a model that takes 1 s for one word.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lerim_jobs import config, ids
from lerim_jobs.config import Settings, Tracing
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import JobKind, JobRequested
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine import identity
from lerim_jobs.paths import Home
from lerim_jobs.tracing.export.backends import start
from lerim_jobs.tracing.export.telemetry import Telemetry
from lerim_jobs.tracing.propagation import reserve
from tests.model_server import ModelServer
from workers.leases import Leases
from workers.runner import Runner

__all__ = ["measure", "measure_nothing"]

_ROLES = "".join(
    f'[roles.{role}]\nprovider = "openai"\nmodel = "m"\napi_base = "{{url}}"\n'
    for role in ("lead", "explorer", "extract", "summarize")
)
_RECEIVER = """
import sys
from tests.otlp_receiver import OtlpReceiver
with OtlpReceiver() as receiver:
    print(receiver.url, flush=True)
    sys.stdin.read()
"""


def measure(place: Path, runs: int) -> list[tuple[str, str]]:
    """Ratios on/off of wall time, and of CPU for the stage that does nothing else; medians of paired runs."""
    with ModelServer(delay_s=1.0) as server, _traced(place, server.url) as (runner, telemetry, env):
        nothing = _pairs(runner, env, "sync", "index", runs * 30)
        telemetry.flush()
        second = _pairs(runner, env, "check", "check:lead", runs)
    return [_row("no-op stage", nothing), _row("stage of 1 s", second)]


def measure_nothing(place: Path, runs: int) -> list[tuple[str, str]]:
    """The first row alone."""
    with _traced(place, "") as (runner, _, env):
        return [_row("no-op stage", _pairs(runner, env, "sync", "index", runs * 30))]


@contextmanager
def _traced(place: Path, model_url: str) -> Iterator[tuple[Runner, Telemetry, dict[str, str]]]:
    home = Home(place / "tracing").ensure()
    home.config.write_text(_ROLES.format(url=model_url), "utf-8")
    env = {"LERIM_HOME": str(home.root), "HOME": str(place), "OPENAI_API_KEY": "sk-bench-0123456789"}
    with _collector() as url:
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
        with _runner(home, env) as (runner, telemetry):
            yield runner, telemetry, env


def _row(name: str, pairs: dict[bool, list[tuple[float, float]]]) -> tuple[str, str]:
    wall = {traced: statistics.median(one[0] for one in pairs[traced]) for traced in pairs}
    cpu = {traced: statistics.median(one[1] for one in pairs[traced]) for traced in pairs}
    added_ms = (wall[True] - wall[False]) * 1000
    return (
        f"tracing: {name}, on / off",
        f"wall {wall[True] / wall[False]:.3f} ({added_ms:+.2f} ms), CPU {cpu[True] / cpu[False]:.2f} "
        f"({(cpu[True] - cpu[False]) * 1000:+.2f} ms)",
    )


def _pairs(
    runner: Runner, env: dict[str, str], kind: JobKind, stage: str, runs: int
) -> dict[bool, list[tuple[float, float]]]:
    """(wall, CPU) seconds of a stage, with and without tracing in turn; the first of each is not counted."""
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for number in range(2 * runs + 2):
        traced = bool(number % 2)
        job_id = _request(runner.store, env, kind, traced)
        wall, cpu = time.perf_counter(), time.process_time()
        runner.run_hint(job_id, stage)
        found[traced].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {traced: times[1:] for traced, times in found.items()}


def _request(store: object, env: dict[str, str], kind: JobKind, traced: bool) -> str:
    trace = reserve(Settings(tracing=Tracing(enabled=traced)), env)
    job_id = ids.job_id(kind)
    event = JobRequested(
        kind,
        {"agents": []},
        job_id,
        "bench",
        identity.host_name(),
        trace.trace_id,
        trace.root_span_id,
        trace.start_ns,
        trace.sampled,
    )
    request_job(store, job_id, event)  # type: ignore[arg-type]  # the runner's store
    return job_id


@contextmanager
def _runner(home: Home, env: dict[str, str]) -> Iterator[tuple[Runner, Telemetry]]:
    store, settings = SqliteStore(home.log), config.load(env)
    leases = Leases(store)
    telemetry = start(home, settings, env)
    leases.start()
    one_stage_a_hint = threading.Event()
    one_stage_a_hint.set()
    runner = Runner(
        store=store,
        home=home,
        env=env,
        owner=identity.me(),
        host=identity.host_name(),
        leases=leases,
        telemetry=telemetry,
        send=lambda rows: None,
        caps=lambda: settings,
        stopping=one_stage_a_hint,
    )
    try:
        yield runner, telemetry
    finally:
        leases.stop()
        telemetry.shutdown()
        store.close()


@contextmanager
def _collector() -> Iterator[str]:
    """A receiver that costs this process nothing."""
    process = subprocess.Popen(
        [sys.executable, "-c", _RECEIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(10)
