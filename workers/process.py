"""One worker process from boot to stop: it declares actors, keeps leases alive, sweeps, and ends in bounded time."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any

from dramatiq import Middleware

from lerim_jobs import config
from lerim_jobs.care.retain import retain
from lerim_jobs.clock import seconds_from
from lerim_jobs.errors import JobsError
from lerim_jobs.jobs import budget, claims, parking
from lerim_jobs.jobs.closing import delivered, traced_events, unclosed_jobs, undelivered_jobs
from lerim_jobs.jobs.sweep import SWEEP_S, sweep
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.store import StageRow
from lerim_jobs.machine import embedded, identity, processes
from lerim_jobs.paths import home as home_of
from lerim_jobs.queue.broker import connect, queue_length, send_all
from lerim_jobs.tracing.export.backends import start
from lerim_jobs.tracing.export.forward import destinations
from lerim_jobs.tracing.export.telemetry import Telemetry
from lerim_jobs.tracing.policy import warnings
from workers import registry
from workers.caps import Caps
from workers.leases import Leases
from workers.runner import Runner

if TYPE_CHECKING:
    from dramatiq import Broker

__all__ = ["WorkerProcess"]

_log = logging.getLogger(__name__)
_DEFAULT_GRACE_S = 4.0
_LEAVE_LIMIT_S = 10.0
_RETAIN_FIRST_S, _RETAIN_LOOK_S = 30.0, 60.0


class WorkerProcess:
    """Wires the parts together; `boot` and `stop` are called by the middleware below."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self.home = home_of(env)
        self.settings, self._sources = config.load_with_sources(env)
        self.caps = Caps(env, self.settings)
        self.host = identity.host_name()
        self.owner = ""
        self.runner: Runner | None = None
        self._grace_s = _DEFAULT_GRACE_S
        self._retain_at = time.monotonic() + _RETAIN_FIRST_S
        self._stopping = threading.Event()
        self._leaving = threading.Lock()
        self._telemetry: Telemetry | None = None
        address = embedded.ensure(self.home, self.settings, env)
        self.broker = connect(address.url, middleware=[LifeCycle(self)])
        registry.register(self.broker, self._run_hint, host=self.host)

    @classmethod
    def from_environment(cls) -> WorkerProcess:
        """Read settings and make the broker; nothing runs until the process boots."""
        return cls(config.environment())

    def boot(self) -> None:
        """Start telemetry, leases and sweeping. Called once in the process that works, after the fork."""
        # Group signals (honcho, Ctrl-C) then reach only the master, which relays exactly one SIGTERM.
        os.setpgid(0, 0)
        self._stop_once()
        self.owner = identity.me()
        store = SqliteStore(self.home.log)
        leases = Leases(store, lease_ms=claims.lease_ms(self.env))
        self._grace_s = seconds_from(self.env, "LERIM_STOP_GRACE_S", _DEFAULT_GRACE_S, least=0.0, most=600.0)
        self._telemetry = start(self.home, self.settings, self.env, with_redis=True)
        self.runner = Runner(
            store=store,
            home=self.home,
            env=self.env,
            owner=self.owner,
            host=self.host,
            leases=leases,
            telemetry=self._telemetry,
            send=self._send,
            caps=self.caps.now,
            stopping=self._stopping,
        )
        leases.start()
        self.broker.listen()
        threading.Thread(target=self._sweep_for_ever, name="sweep", daemon=True).start()
        self._hold = processes.register_worker(
            self.home,
            queues=registry.queues(self.host),
            tracing=self.settings.tracing.enabled,
            tracing_from=self._sources.get("tracing.enabled", "default"),
            backends=destinations(self.env),
        )
        for note in self._telemetry.notes or warnings(self.settings, self.env):
            _log.warning("tracing: %s", note)
        processes.watch_parent(self.env)

    def _stop_once(self) -> None:
        """To dramatiq a second SIGTERM means "at once", claims and spans lost; people press Ctrl-C twice, honcho kills twice.

        The first one begins a stop that is bounded anyway.
        """
        stop = signal.getsignal(signal.SIGTERM)

        def once(signum: int, frame: FrameType | None) -> None:
            if not self._stopping.is_set():
                self.begin_stop()
                if callable(stop):
                    stop(signum, frame)

        signal.signal(signal.SIGTERM, once)

    def begin_stop(self) -> None:
        """Give running stages a moment, then hand them back and leave, whatever still runs. Called twice is called once."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        threading.Thread(target=self._leave_soon, name="stop", daemon=True).start()

    def end_stop(self) -> None:
        """Every thread has stopped by itself."""
        self._leave(code=0)

    def _leave_soon(self) -> None:
        """As soon as no stage runs: waiting for idle threads to notice would only cost time."""
        deadline = time.monotonic() + self._grace_s
        while self.runner and self.runner.leases.held() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._leave(code=0)

    def _leave(self, *, code: int) -> None:
        if not self._leaving.acquire(blocking=False):
            # The other thread ends the process; returning would let the interpreter end it first, spans unsent.
            time.sleep(_LEAVE_LIMIT_S)
            return
        try:
            self._hand_back()
        except Exception as exc:
            _log.warning("could not hand back running stages, their leases will run out: %s", exc)
        try:
            self._end_telemetry()
        except Exception:
            _log.exception("tracing did not end in order")
        # Threads may still sit in a model call or in an exporter's socket; a normal exit would wait for them.
        os._exit(code)

    def _hand_back(self) -> None:
        if self.runner:
            self.runner.leases.stop()
            if handed_back := self.runner.leases.release_all():
                _log.info("handed back %d running stages", handed_back)

    def _end_telemetry(self) -> None:
        if self._telemetry:
            self._telemetry.shutdown(limit_s=3.0)
            self._forget_traces()
            if dropped := self._telemetry.dropped:
                _log.warning("tracing: %d spans were not taken by the backend and are lost there", dropped)

    def _run_hint(self, job_id: str, stage: str) -> None:
        if self.runner and not self._stopping.is_set():
            self.runner.run_hint(job_id, stage)

    def _send(self, rows: Sequence[StageRow]) -> None:
        if rows and self.runner:
            send_all(self.broker, rows, now_ms=self.runner.store.now_ms())

    def _sweep_for_ever(self) -> None:
        while not self._stopping.wait(SWEEP_S * random.uniform(0.75, 1.25)):
            try:
                self._sweep_once()
            except JobsError as exc:
                _log.warning("sweep: %s", exc)
            except Exception:
                _log.exception("sweep failed")

    def _sweep_once(self) -> None:
        assert self.runner is not None
        embedded.ensure(self.home, self.settings, self.env)
        sweep(
            self.runner.store,
            self._send_again,
            alive=identity.alive,
            queue_length=partial(queue_length, self.broker),
        )
        for job_id, stage in parking.woken(self.runner.store, self.caps.now()):
            if row := claims.wake(self.runner.store, job_id, stage):
                self._send([row])
        budget.expire(self.runner.store)
        self._retain()
        mine = {claim.job_id for claim in self.runner.leases.held()}
        _one_by_one((job_id for job_id in unclosed_jobs(self.runner.store) if job_id not in mine), self.runner.close)
        self._deliver()

    def _send_again(self, row: StageRow) -> None:
        assert self.runner is not None
        self._send([row])
        self.runner.note_resent(row)

    def _forget_traces(self) -> None:
        """What could not be delivered by an orderly stop is reported as lost, not left to others."""
        if self.runner and self._telemetry and self._telemetry.on_the_way:
            with suppress(JobsError):
                delivered(self.runner.store, self._telemetry.on_the_way)

    def _deliver(self) -> None:
        """Take over traces whose emitter was killed before a receiver had them; forget those that arrived."""
        assert self.runner is not None
        if self._telemetry is None or not self._telemetry.is_remote:
            return
        _one_by_one(undelivered_jobs(self.runner.store, alive=identity.alive), self._emit)
        if arrived := self._telemetry.arrived():
            delivered(self.runner.store, arrived)

    def _emit(self, job_id: str) -> None:
        assert self.runner is not None
        assert self._telemetry is not None
        self._telemetry.emit_job(traced_events(self.runner.store, job_id), alive=identity.alive)

    def _retain(self) -> None:
        """Once an hour, by whichever worker comes first; looking whether it is time is a read a minute."""
        assert self.runner is not None
        if time.monotonic() < self._retain_at:
            return
        self._retain_at = time.monotonic() + _RETAIN_LOOK_S
        retain(self.runner.store, self.home, self.settings.retention)


class LifeCycle(Middleware):
    """Hooks of the worker process; nothing about stages is in here."""

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process

    def after_process_boot(self, broker: Broker) -> None:
        """A worker that cannot boot must not stay: dramatiq would let it wait for messages it can never work on."""
        try:
            self._process.boot()
        except JobsError as exc:
            _log.error("workers: %s", exc)
            os._exit(exc.exit_code)
        except Exception:
            _log.exception("workers: the process does not start")
            os._exit(1)

    def after_consumer_thread_boot(self, broker: Broker, thread: Any) -> None:
        """Looking into a queue makes no spans."""
        from opentelemetry.context import attach, set_value
        from opentelemetry.instrumentation.utils import _SUPPRESS_INSTRUMENTATION_KEY

        attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))

    def before_worker_shutdown(self, broker: Broker, worker: Any) -> None:
        self._process.begin_stop()

    def after_worker_shutdown(self, broker: Broker, worker: Any) -> None:
        self._process.end_stop()


def _one_by_one(jobs: Iterable[str], close: Callable[[str], object]) -> None:
    """A job whose trace cannot be made keeps back no other's."""
    for job_id in jobs:
        try:
            close(job_id)
        except JobsError as exc:
            _log.warning("the trace of %s: %s", job_id, exc)
        except Exception:
            _log.exception("the trace of %s cannot be made", job_id)
