"""The faults of a drill, each a small function; what must be undone later is undone by a timer or by `calm`.

Timers have threads of their own: a stopped worker may hold the log's lock, and then whoever waits for the log waits for it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from lerim_jobs import faults
from lerim_jobs.drill import provider
from lerim_jobs.drill.provider import MADE_UP, Provider
from lerim_jobs.drill.sandbox import LEASE_S, Sandbox
from lerim_jobs.errors import JobsError
from lerim_jobs.jobs import budget
from lerim_jobs.machine import supervision
from lerim_jobs.machine.embedded import servers
from lerim_jobs.machine.processes import schedulers_running, workers_running
from lerim_jobs.paths import memory_dir

__all__ = ["KINDS", "Injection"]

_WEIGHTS = {
    "kill_worker": 3,
    "kill_master": 1,
    "kill_scheduler": 1,
    "kill_supervisor": 1,
    "kill_redis": 2,
    "kill_redis_and_data": 2,
    "kill_everything": 1,
    "stop_worker": 3,
    faults.STOP_BEFORE_COMMIT: 2,
    **{f"die_{point}": 2 for point in faults.POINTS},
    **dict.fromkeys(provider.FAULTS, 3),
    MADE_UP: 3,
    "disk_full": 2,
    "clock_jump": 2,
    "hand_edit": 4,
    "budget_hit": 2,
}
KINDS = tuple(_WEIGHTS)
# On a busy machine a worker needs long to start: one that is killed before it worked proves nothing.
_NEED_ALL = {"kill_worker", "kill_master", "kill_supervisor", "kill_everything"}
_WATCH_S = 0.1
_TAKEN_OVER_S = 1.0
_MOST_STOPPED_S = LEASE_S + 12.0


class Injection:
    """`done` counts what really happened: a point that nobody came by, or a fault that no request met, does not count."""

    def __init__(self, sandbox: Sandbox, served: Provider, rng: random.Random, kinds: Sequence[str]) -> None:
        self._sandbox, self._provider, self._rng = sandbox, served, rng
        self._kinds = list(kinds or KINDS)
        self._deck: list[str] = []
        self._put_off: set[str] = set()
        self._timers: list[tuple[threading.Timer, Callable[[], object]]] = []
        self._timers_lock = threading.Lock()
        self._stopped: dict[int, float] = {}
        self._armed: set[str] = set()
        self._done: Counter[str] = Counter()
        threading.Thread(target=self._watch_stopped, name="stopped", daemon=True).start()

    @property
    def done(self) -> Counter[str]:
        """Faults so far, by kind."""
        self._collect()
        return self._done + self._provider.met

    def inject(self) -> str:
        """Draw one fault and let it happen; returns its name, empty when it was not possible now.

        Drawn as from a deck of cards, so that every kind comes as often as its weight says, in a short drill as well.
        """
        if not self._deck:
            self._deck = [kind for kind in self._kinds for _ in range(_WEIGHTS[kind])] + sorted(self._put_off)
            self._rng.shuffle(self._deck)
            self._put_off = set()
        kind = self._deck.pop()
        if self._happens(kind):
            return kind
        self._put_off.add(kind)
        return ""

    def calm(self) -> None:
        """Undo everything, disarm everything."""
        self._provider.calm()
        self._collect()
        for point in self._armed:
            (self._sandbox.fault_folder / point).unlink(missing_ok=True)
        self._armed = set()
        time.sleep(2 * _WATCH_S)
        for pid in list(self._stopped):
            _signal(pid, signal.SIGCONT)
        with self._timers_lock:
            waiting, self._timers = self._timers, []
        for timer, action in waiting:
            if timer.is_alive():
                timer.cancel()
                action()

    def _happens(self, kind: str) -> bool:
        if kind in provider.FAULTS or kind == MADE_UP:
            self._provider.next_meets(kind)
            return True
        if kind == faults.STOP_BEFORE_COMMIT and (kind in self._armed or self._stopped):
            return False  # somebody must be left to take the stage over
        if kind.startswith("die_") or kind == faults.STOP_BEFORE_COMMIT:
            point = kind.removeprefix("die_")
            (self._sandbox.fault_folder / point).touch()
            self._armed.add(point)
            return True
        if kind in _NEED_ALL and len(workers_running(self._sandbox.home)) < self._sandbox.workers:
            return False
        happened = bool(getattr(self, f"_{kind}")())
        self._done[kind] += happened
        return happened

    def _collect(self) -> None:
        for point in list(self._armed):
            if not (self._sandbox.fault_folder / point).exists():
                self._armed.discard(point)
                self._done[f"die_{point}" if point in faults.POINTS else point] += 1

    def _watch_stopped(self) -> None:
        """Let those that stopped themselves go on when others have their stages, whatever the drill waits for meanwhile."""
        with suppress(FileNotFoundError):  # the sandbox is gone: the drill is over
            while True:
                for name in os.listdir(self._sandbox.fault_folder):
                    if name.startswith(faults.STOPPED):
                        (self._sandbox.fault_folder / name).unlink()
                        self._stopped[int(name.removeprefix(faults.STOPPED))] = time.monotonic()
                self._let_go_on()
                time.sleep(_WATCH_S)

    def _let_go_on(self) -> None:
        for pid, since in list(self._stopped.items()):
            waited = time.monotonic() - since
            taken_over = False
            with suppress(JobsError):  # a log that cannot be read must not leave anybody stopped
                taken_over = waited > LEASE_S and pid not in self._owners()
            if taken_over:
                time.sleep(_TAKEN_OVER_S)
            if taken_over or waited > _MOST_STOPPED_S:
                _signal(pid, signal.SIGCONT)
                del self._stopped[pid]

    def _later(self, seconds: float, action: Callable[[], object]) -> None:
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        with self._timers_lock:
            self._timers = [one for one in self._timers if one[0].is_alive()]
            self._timers.append((timer, action))
            timer.start()

    # --- processes ---
    def _kill_worker(self) -> bool:
        return self._kill(self._workers())

    def _kill_master(self) -> bool:
        return self._kill([one.parent for one in workers_running(self._sandbox.home) if one.parent > 1])

    def _kill_scheduler(self) -> bool:
        return self._kill([one.pid for one in schedulers_running(self._sandbox.home)])

    def _kill_supervisor(self) -> bool:
        pid = supervision.state(self._sandbox.home).pid
        return self._kill([pid] if pid else [])

    def _kill_redis(self) -> bool:
        pid = servers(self._sandbox.home).recorded
        return self._kill([pid] if pid else [])

    def _kill_redis_and_data(self) -> bool:
        if not self._kill_redis():
            return False
        for path in self._sandbox.home.redis.iterdir():
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        return True

    def _kill_everything(self) -> bool:
        """As a machine that loses its power: the supervisor first, so that it starts nothing again."""
        home = self._sandbox.home
        supervisor, redis = supervision.state(home).pid, servers(home).recorded
        workers = [pid for one in workers_running(home) for pid in (one.parent, one.pid) if pid > 1]
        others = [one.pid for one in schedulers_running(home)] + [
            one.pid for one in self._sandbox.commands if one.poll() is None
        ]
        killed = [_signal(pid, signal.SIGKILL) for pid in (supervisor, *workers, *others, redis) if pid]
        return any(killed)

    def _stop_worker(self) -> bool:
        """Longer than its lease: it comes back when others have its stages."""
        pids = self._workers()
        pid = self._rng.choice(pids) if pids else 0
        if not pid or not _signal(pid, signal.SIGSTOP):
            return False
        self._later(LEASE_S + self._rng.uniform(3, 7), lambda: _signal(pid, signal.SIGCONT))
        return True

    def _workers(self) -> list[int]:
        """Workers with a stage in flight, where it hurts most; else all of them."""
        running = {one.pid for one in workers_running(self._sandbox.home)}
        return sorted(running & self._owners() or running)

    def _owners(self) -> set[int]:
        """Processes that hold a stage."""
        owners = [row.owner or "" for row in self._sandbox.store.running_stages()]
        return {int(owner.split("/")[1]) for owner in owners if owner.count("/") == 3}

    def _kill(self, pids: Sequence[int]) -> bool:
        return bool(pids) and _signal(self._rng.choice(pids), signal.SIGKILL)

    # --- the machine ---
    def _disk_full(self) -> bool:
        path = self._sandbox.fault_folder / faults.DISK_FULL
        path.touch()
        self._later(self._rng.uniform(0.3, 1.5), lambda: path.unlink(missing_ok=True))
        return True

    def _clock_jump(self) -> bool:
        """Past every lease, and back."""
        path = self._sandbox.fault_folder / faults.CLOCK
        path.write_text(str(self._rng.choice((-1, 1)) * self._rng.randint(4000, 9000)), "ascii")
        self._later(self._rng.uniform(1, 3), lambda: path.unlink(missing_ok=True))
        return True

    # --- people ---
    def _hand_edit(self) -> bool:
        files = sorted(memory_dir(self._sandbox.project).glob("*/*.md"))
        if not files:
            return False
        path = self._rng.choice(files)
        with suppress(OSError):
            text = path.read_text("utf-8")
            marker = "\n<!-- proof:"
            path.write_text(text.replace(marker, f"\nChanged by hand, {self._rng.random():.6f}.\n{marker}", 1), "utf-8")
            return marker in text
        return False

    def _budget_hit(self) -> bool:
        """A few calls more and the cap of the day is reached; a moment later it is raised."""
        used = budget.spent(self._sandbox.store).usd
        self._sandbox.set_cap(f"{used + self._rng.uniform(0.005, 0.06):.6f}")
        self._later(self._rng.uniform(2, 4), lambda: self._sandbox.set_cap("inf"))
        return True


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
