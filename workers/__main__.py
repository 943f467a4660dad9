"""`python -m workers`: start worker processes. Queues never block each other: each has `slots` threads of its own."""

from __future__ import annotations

import gc
import logging
import os
import sys

import click

from lerim_jobs import config
from lerim_jobs.errors import JobsError
from lerim_jobs.jobs import deaths
from lerim_jobs.kinds import all_stages
from lerim_jobs.kinds.kind import QUEUES
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine import embedded, identity
from lerim_jobs.paths import Home, home
from workers.registry import load_stage
from workers.registry import queues as all_queues

_STOP_MS = 15_000
_BOOT_WAIT_MS = 1_000
"""While dramatiq's master waits for its children to boot it sees neither their death nor a signal."""


@click.command(name="workers", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes to fork.")
@click.option("--slots", type=click.IntRange(1, 256), help="Stages at once per queue and process. [default: 8]")
@click.option("--queues", "wanted", default="", help=f"Only these, comma-separated: {', '.join(QUEUES)}, host.")
def main(processes: int, slots: int | None, wanted: str) -> None:
    """Work on jobs until stopped."""
    try:
        env = config.environment()
        settings = config.load(env)
        state = home(env).ensure()
        chosen = _chosen(wanted)
        embedded.ensure(state, settings, env)
    except JobsError as exc:
        click.echo(f"workers: {exc}", err=True)
        raise SystemExit(exc.exit_code) from None
    slots = slots or settings.queue.slots
    # Read by dramatiq when it is imported: a queue's prefetch is also how many of its stages run at once.
    os.environ.update(dramatiq_queue_prefetch=str(slots))
    os.environ.setdefault("dramatiq_restart_delay", "500")
    # Waiting threads need not notice that the worker stops: the process leaves without them.
    os.environ.setdefault("dramatiq_worker_timeout", "30000")
    logging.getLogger("dramatiq.MainProcess").addHandler(_Exits(state))
    _run(processes, slots * len(chosen), chosen)


class _Exits(logging.Handler):
    """Hears in the master how a worker process ended, which nobody else can know, and tells the log: it is evidence."""

    def __init__(self, state: Home) -> None:
        super().__init__(logging.CRITICAL)
        self._state = state

    def emit(self, record: logging.LogRecord) -> None:
        match record.args:
            case (int() as pid, int() as code):
                machine = identity.me().partition("/")[0]
                try:
                    deaths.saw_exit(SqliteStore(self._state.log), machine, pid, code)
                except Exception:  # an error in here would end the master, and with it every worker
                    return  # the worker says the same in its own log


def _chosen(wanted: str) -> list[str]:
    known = all_queues(identity.host_name())
    if not wanted:
        return known
    host = known[-1]
    names = [host if name == "host" else name for name in (part.strip() for part in wanted.split(","))]
    for name in names:
        if name not in known:
            raise click.UsageError(f"there is no queue {name!r}; there are {', '.join((*QUEUES, 'host'))}")
    return names


def _run(processes: int, threads: int, queues: list[str]) -> None:
    from dramatiq import cli

    _preload(queues)
    arguments = ["workers.app", "--processes", str(processes), "--threads", str(threads)]
    arguments += ["--worker-shutdown-timeout", str(_STOP_MS), "--worker-fork-timeout", str(_BOOT_WAIT_MS)]
    arguments += ["--queues", *queues]
    parsed = cli.make_argument_parser().parse_args(arguments)  # type: ignore[no-untyped-call]  # upstream has no types
    sys.exit(cli.main(parsed))  # type: ignore[no-untyped-call]


def _preload(queues: list[str]) -> None:
    """Load the stages once, before the fork and its threads: faster than later, and the processes share the memory.

    No garbage arises while modules load, and frozen objects are left alone by collections, so shared pages stay shared.
    """
    gc.disable()
    for name, stage in all_stages().items():
        if stage.queue in queues:
            load_stage(name)
    gc.freeze()
    gc.enable()


if __name__ == "__main__":
    main()
