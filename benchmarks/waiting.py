"""Enqueue to start, as a user sees it: a real worker that idles, a real Redis, one question at a time."""

from __future__ import annotations

import time
from pathlib import Path

from lerim_jobs import config, ids
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import JobRequested, StageStarted
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine import embedded, identity
from lerim_jobs.machine.processes import temporary_worker
from lerim_jobs.paths import Home
from lerim_jobs.queue.broker import connect, send_all

__all__ = ["worker_waits_ms"]


def worker_waits_ms(folder: Path, asks: int) -> list[float]:
    """Milliseconds from the request in the log to StageStarted, per question, with pauses so that the worker idles."""
    env = config.environment()
    env.update(LERIM_HOME=str(folder), LERIM_PROVIDER="offline")
    home, settings = Home(folder).ensure(), config.load(env)
    store = SqliteStore(home.log)
    address = embedded.ensure(home, settings, env)
    broker = connect(address.url)
    waits = []
    try:
        with temporary_worker(home, settings, env):
            for n in range(asks + 1):
                time.sleep(0.35 + 0.013 * n)
                waits.append(_ask(store, broker))
    finally:
        store.close()
        embedded.stop(home, only_if_unused=False)
    return waits[1:]


def _ask(store: SqliteStore, broker: object) -> float:
    job_id = ids.job_id("ask")
    params = {"question": "anything?", "limit": 3, "provider": "offline"}
    requested = JobRequested("ask", params, "bench", "bench", identity.host_name(), ids.trace_id(), "s" * 16, 1)
    send_all(broker, request_job(store, job_id, requested).freed)  # type: ignore[arg-type]
    for _ in range(2000):
        rows = store.read(f"job-{job_id}")
        for row in rows:
            if isinstance(row.event, StageStarted):
                return row.at_ms - rows[0].at_ms
        time.sleep(0.005)
    raise RuntimeError("the worker never started the question")
