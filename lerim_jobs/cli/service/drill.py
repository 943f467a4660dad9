"""`lerim drill`: break everything that can break, in a sandbox, and audit what is left."""

from __future__ import annotations

import random
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lerim_jobs.cli.output import emit, json_option, note, print_line
from lerim_jobs.errors import EXIT_DONE, EXIT_FAILED, BadInput

if TYPE_CHECKING:
    from lerim_jobs.drill.drill import Report

__all__ = ["drill"]

_FAULTS_PER_MINUTE = 30


@click.command()
@click.option("--minutes", default=2.0, show_default=True, type=click.FloatRange(0.1, 1440), help="How long.")
@click.option("--seed", type=int, help="Draw the same faults again. [default: random, and printed]")
@click.option("--faults", type=click.IntRange(0), help=f"At least so many. [default: {_FAULTS_PER_MINUTE} a minute]")
@click.option("--only", "kinds", multiple=True, metavar="KIND", help="Only faults of this kind; may be repeated.")
@click.option(
    "--settle-s", default=180.0, show_default=True, type=click.FloatRange(1), help="Until all jobs must have ended."
)
@click.option("--keep", is_flag=True, help="Keep the sandbox, also when all is well.")
@json_option
def drill(
    minutes: float,
    seed: int | None,
    faults: int | None,
    kinds: tuple[str, ...],
    settle_s: float,
    keep: bool,
    as_json: bool,
) -> int:
    """Kill, stop, starve and confuse real workers in a sandbox, then audit.

    Nothing of yours is touched: state folder, project, sessions, model server and Redis are the drill's own. After a
    breach the sandbox is kept and the exit code is 1.
    """
    from lerim_jobs.drill.drill import Plan, run
    from lerim_jobs.drill.injection import KINDS
    from lerim_jobs.drill.model_server import ModelServer
    from lerim_jobs.drill.sandbox import Sandbox

    for kind in kinds:
        if kind not in KINDS:
            raise BadInput(f"there is no fault {kind!r}; there are {', '.join(KINDS)}")
    seed = random.randrange(1_000_000) if seed is None else seed
    wanted = int(minutes * _FAULTS_PER_MINUTE) if faults is None else faults
    root = Path(tempfile.mkdtemp(prefix="lerim-drill-")).resolve()
    note(f"drill: seed {seed}, {minutes:g} minutes, {wanted} faults, in {root}")
    report = None
    # Without this a plain `kill` would leave the sandbox's services behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ModelServer() as server:
            sandbox = Sandbox(root, server.url)
            plan = Plan(seconds=minutes * 60, faults=wanted, seed=seed, kinds=kinds, settle_s=settle_s)
            report = run(sandbox, server, plan, note)
            sandbox.store.close()
    finally:
        kept = keep or report is None or not report.ok
        if not kept:
            shutil.rmtree(root, ignore_errors=True)
    about = {"seed": seed, "minutes": minutes, "sandbox": str(root) if kept else None}
    _show(report, about, as_json=as_json)
    return EXIT_DONE if report.ok else EXIT_FAILED


def _show(report: Report, about: dict[str, Any], *, as_json: bool) -> None:
    from lerim_jobs.audit.audit import to_json
    from lerim_jobs.cli.service.audit import show

    if as_json:
        counts = {name: getattr(report, name) for name in ("faults", "jobs", "stages", "attempts", "memories")}
        calls = {"served": report.served, "recorded": report.recorded}
        audits = {"audit": to_json(report.audit), "after_stop": to_json(report.after_stop)}
        emit({**about, **counts, "calls": calls, "open_jobs": report.open_jobs, **audits, "ok": report.ok})
        return
    print_line(f"{sum(report.faults.values())} faults: {_listed(report.faults)}")
    print_line(
        f"{sum(report.jobs.values())} jobs ({_listed(report.jobs)}), {report.stages} stages settled in "
        f"{report.attempts} attempts, {report.memories} memories"
    )
    print_line(f"{report.served} model answers served, {report.recorded} recorded\n")
    show(report.audit)
    if not report.after_stop.ok:
        print_line("\nAfter everything was stopped:")
        show(report.after_stop)
    if report.open_jobs:
        print_line(f"\nnot at an end: {', '.join(report.open_jobs)}")
    print_line(f"\nseed {about['seed']}: {'all is well' if report.ok else 'BREACHED'}")
    if about["sandbox"]:
        print_line(f"the sandbox is kept: LERIM_HOME={about['sandbox']}/home")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
