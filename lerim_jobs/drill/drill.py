"""The drill itself: keep work coming, break things, stop breaking them, wait until all is quiet, audit."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from lerim_jobs import ids
from lerim_jobs.audit.audit import Audit, audit
from lerim_jobs.drill.injection import Injection
from lerim_jobs.drill.model_server import ModelServer
from lerim_jobs.drill.provider import Provider
from lerim_jobs.drill.sandbox import Sandbox
from lerim_jobs.drill.traffic import Traffic
from lerim_jobs.errors import QueueUnavailable
from lerim_jobs.jobs.closing import unclosed_jobs
from lerim_jobs.jobs.line import JOBS
from lerim_jobs.log.events import ModelCalled, ModelCallFailed, ProjectAdded
from lerim_jobs.log.projection import fold_all
from lerim_jobs.log.scan import scan
from lerim_jobs.machine.identity import host_name
from lerim_jobs.machine.processes import workers_running
from lerim_jobs.memory.stored import all_memories
from lerim_jobs.projects import project_stream

__all__ = ["Plan", "Report", "run"]

_TICK_S = 0.2
_COMMAND_EVERY_S = 3.0
_MOST_OPEN_JOBS = 6
_SAY_EVERY_S = 10.0
_MODEL_DELAY_S = 0.25
_GRACE_S = 5.0
_START_S = 180.0

Say = Callable[[str], None]


class Plan(msgspec.Struct, frozen=True):
    """How long and how hard. `faults` spread over `seconds`; the end waits for the last of them.

    Within `settle_s` behind the last fault everything that was asked for has to come to an end.
    """

    seconds: float
    faults: int
    seed: int
    kinds: Sequence[str] = ()
    settle_s: float = 180.0


class Report(msgspec.Struct, frozen=True):
    """What was injected, what was worked, and what the audits found: with workers, and after everything was stopped."""

    faults: dict[str, int]
    jobs: dict[str, int]
    stages: int
    attempts: int
    served: int
    recorded: int
    memories: int
    open_jobs: list[str]
    audit: Audit
    after_stop: Audit

    @property
    def ok(self) -> bool:
        return self.audit.ok and self.after_stop.ok and not self.open_jobs


def run(sandbox: Sandbox, server: ModelServer, plan: Plan, say: Say) -> Report:
    """Do it all. Everything that was started is ended, whatever happens."""
    rng = random.Random(plan.seed)
    provider = Provider(random.Random(rng.random()), delay_s=_MODEL_DELAY_S)
    server.answer = provider.answer
    _register_project(sandbox)
    traffic = Traffic(sandbox, random.Random(rng.random()))
    injection = Injection(sandbox, provider, random.Random(rng.random()), plan.kinds)
    try:
        _wait_for_workers(sandbox, say)
        _break_things(sandbox, traffic, injection, plan, say)
        injection.calm()
        open_jobs = _settle(sandbox, traffic, say, plan.settle_s)
        # What the stopped workers would say is gone with them, so the first look is at the living system.
        first = audit(sandbox.home, sandbox.store, sandbox.settings, sandbox.env, grace_s=_GRACE_S)
    finally:
        injection.calm()
        sandbox.down()
    last = audit(sandbox.home, sandbox.store, sandbox.settings, sandbox.env, patience_s=3.0, grace_s=_GRACE_S)
    return _report(sandbox, server, injection, open_jobs, first, last)


def _register_project(sandbox: Sandbox) -> None:
    project_id = ids.derived("project", host_name(), str(sandbox.project))
    added = ProjectAdded(project_id, sandbox.project.name, str(sandbox.project), host_name())
    sandbox.store.append(project_stream(project_id), [added], expected=0)


def _wait_for_workers(sandbox: Sandbox, say: Say) -> None:
    """A busy machine may need long for its first workers; the drill's time begins when they are there."""
    until = time.monotonic() + _START_S
    while not workers_running(sandbox.home):
        sandbox.keep_up(say)
        if time.monotonic() > until:
            raise QueueUnavailable(f"no worker starts in the sandbox: see {str(sandbox.home.logs)!r}")
        time.sleep(_TICK_S)


def _break_things(sandbox: Sandbox, traffic: Traffic, injection: Injection, plan: Plan, say: Say) -> None:
    begin = time.monotonic()
    next_command = next_said = begin
    while True:
        now = time.monotonic()
        happened = sum(injection.done.values())
        is_over = now - begin > plan.seconds
        if is_over and (happened >= plan.faults or now - begin > 2 * plan.seconds):
            return
        sandbox.keep_up(say)
        if now >= next_command and len(_open_jobs(sandbox)) < _MOST_OPEN_JOBS:
            traffic.tick()
            next_command = now + _COMMAND_EVERY_S
        if happened < plan.faults * min(1.0, (now - begin) / plan.seconds):
            injection.inject()
        if now >= next_said:
            say(f"{now - begin:5.0f} s  {happened} faults, {_progress(sandbox)}")
            next_said = now + _SAY_EVERY_S
        time.sleep(_TICK_S)


def _settle(sandbox: Sandbox, traffic: Traffic, say: Say, limit_s: float) -> list[str]:
    """No more faults: everything that was asked for must come to an end. Returns what did not."""
    say("         no more faults: waiting until all is quiet")
    sandbox.keep_up(say)
    traffic.last_sync()
    begin = quiet_since = said = time.monotonic()
    while time.monotonic() - begin < limit_s:
        sandbox.keep_up(say)
        now = time.monotonic()
        busy = any(one.poll() is None for one in sandbox.commands)
        if busy or _open_jobs(sandbox) or unclosed_jobs(sandbox.store):
            quiet_since = now
        if now - quiet_since > 2.0:
            break
        if now - said > _SAY_EVERY_S:
            say(f"{now - begin:5.0f} s  {_progress(sandbox)}")
            said = now
        time.sleep(_TICK_S)
    return _open_jobs(sandbox)


def _open_jobs(sandbox: Sandbox) -> list[str]:
    return sandbox.store.open_jobs()


def _progress(sandbox: Sandbox) -> str:
    jobs = Counter(line.status for line in fold_all(sandbox.store, JOBS).values())
    said = ", ".join(f"{count} {status}" for status, count in sorted(jobs.items()))
    return f"jobs: {said or 'none'}"


def _report(
    sandbox: Sandbox, server: ModelServer, injection: Injection, open_jobs: list[str], first: Audit, last: Audit
) -> Report:
    lines = fold_all(sandbox.store, JOBS).values()
    recorded = sum(
        isinstance(row.event, ModelCalled) or (isinstance(row.event, ModelCallFailed) and row.event.tokens_in > 0)
        for row in scan(sandbox.store, ("ModelCalled", "ModelCallFailed"))
    )
    return Report(
        faults=dict(sorted(injection.done.items())),
        jobs=dict(sorted(Counter(line.status for line in lines).items())),
        stages=sum(line.settled for line in lines),
        attempts=sum(line.attempts for line in lines),
        served=len(server.served),
        recorded=recorded,
        memories=sum(one.status == "active" for one in all_memories(sandbox.store).values()),
        open_jobs=open_jobs,
        audit=first,
        after_stop=last,
    )
