"""The job in lerim-jobs: the real runner, claims and log, hints over a real Redis; only what a stage does is left out."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import dramatiq

from lerim_jobs.config import Settings
from lerim_jobs.jobs.outcomes import End
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import JobRequested, StageRequested
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine import embedded, identity
from lerim_jobs.paths import Home
from lerim_jobs.queue.broker import connect, send_all
from lerim_jobs.tracing.export.backends import start
from workers import registry, runner
from workers.leases import Leases
from workers.stage import Outcome, StageContext

__all__ = ["bare_dramatiq", "durable"]

_FAN_OUT = 6


def durable(place: Path, jobs: int, threads: int) -> float:
    """Jobs a second through log and queue."""
    home, env = Home(place / "ours").ensure(), dict(os.environ)
    store = SqliteStore(home.log)
    broker = connect(embedded.ensure(home, Settings(), env).url)
    broker.add_middleware(_Quick())
    finished = threading.Semaphore(0)

    def run(ctx: StageContext) -> Outcome:
        if ctx.stage == "index":
            plan = [StageRequested(f"extract:x:{n}", "extract") for n in range(_FAN_OUT)]
            return Outcome({"found": _FAN_OUT}, next_stages=plan)
        if ctx.stage == "finish":
            return Outcome({}, end=End("succeeded", {}, None))
        return Outcome({"stage": ctx.stage, "candidates": []})

    def close(job_id: str) -> None:
        finished.release()

    vars(runner)["load_stage"] = lambda stage: run  # the only part that is not the product's own
    works = _Runner(
        store=store,
        home=home,
        env=env,
        owner=identity.me(),
        host=identity.host_name(),
        leases=Leases(store),
        telemetry=start(home, Settings(), env),
        send=lambda rows: _send(broker, rows),
        caps=Settings,
    )
    _Runner.on_end = close
    registry.register(broker, works.run_hint, host=identity.host_name())
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=25)
    worker.start()
    begin = time.perf_counter()
    for n in range(jobs):
        request = JobRequested(
            "sync", {}, f"bench-{n}", "bench", identity.host_name(), f"{n:032x}", "s" * 16, 1, sampled=False
        )
        send_all(broker, request_job(store, f"sync-{n}", request).freed)
        if n >= threads:
            finished.acquire()
    for _ in range(min(jobs, threads)):
        finished.acquire()
    spent = time.perf_counter() - begin
    worker.stop()
    embedded.stop(home, only_if_unused=False)
    store.close()
    return jobs / spent


def bare_dramatiq(place: Path, jobs: int, threads: int) -> float:
    """Jobs a second when nothing is kept: messages over the same Redis, a counter in memory joins."""
    home, env = Home(place / "bare").ensure(), dict(os.environ)
    broker = connect(embedded.ensure(home, Settings(), env).url)
    broker.add_middleware(_Quick())
    finished, lock, left = threading.Semaphore(0), threading.Lock(), dict.fromkeys(range(jobs), _FAN_OUT)

    def stage(job: int, name: str) -> None:
        if name == "index":
            for n in range(_FAN_OUT):
                actor.send(job, f"extract:{n}")
        elif name == "finish":
            finished.release()
        else:
            with lock:
                left[job] -= 1
                last = left[job] == 0
            if last:
                actor.send(job, "finish")

    actor: Any = dramatiq.actor(broker=broker)(stage)
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=25)
    worker.start()
    begin = time.perf_counter()
    for n in range(jobs):
        actor.send(n, "index")
        if n >= threads:
            finished.acquire()
    for _ in range(min(jobs, threads)):
        finished.acquire()
    spent = time.perf_counter() - begin
    worker.stop()
    embedded.stop(home, only_if_unused=False)
    return jobs / spent


class _Runner(runner.Runner):
    """Instead of closing the trace it says that the job ended: there is no trace to close."""

    on_end: Any = None

    def close(self, job_id: str) -> None:
        type(self).on_end(job_id)


class _Quick(dramatiq.Middleware):
    """Consumers look as often as a busy worker's do."""

    def after_consumer_thread_boot(self, broker: Any, thread: Any) -> None:
        thread.worker_timeout = 25


def _send(broker: Any, rows: Any) -> None:
    send_all(broker, rows)
