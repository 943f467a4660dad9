"""`python -m scheduler`: ask for sync and maintain jobs at fixed UTC times until stopped."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from lerim_jobs import config
from lerim_jobs.errors import JobsError
from lerim_jobs.machine import processes
from lerim_jobs.paths import home
from scheduler.app import Clockwork, make_scheduler


def main() -> None:
    """Run until SIGTERM or SIGINT; errors while asking for a job are logged, never fatal."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        env = config.environment()
        clockwork = Clockwork(env, config.load(env), home(env).ensure())
    except JobsError as exc:
        print(f"scheduler: {exc}", file=sys.stderr)  # noqa: T201 - a command's own error line
        sys.exit(exc.exit_code)
    registration = processes.register_scheduler(clockwork.home, tracing=clockwork.settings.tracing.enabled)
    scheduler = make_scheduler(clockwork)
    scheduler.start()
    parent = os.getppid()
    watching = env.get(processes.WATCH_PARENT) == "1"
    while not stop.wait(0.5):
        if watching and os.getppid() != parent:
            break
    registration.close()
    # Threads of the scheduler may sit in a lock or a socket; there is nothing to save.
    os._exit(0)


if __name__ == "__main__":
    main()
