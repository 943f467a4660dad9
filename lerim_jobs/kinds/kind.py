"""What a kind of job and a stage are: values that everything else reads, and nothing that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from lerim_jobs.config import RoleName
from lerim_jobs.log.events import JobRequested, JobStatus, StageRequested

__all__ = [
    "AGENT",
    "ASK",
    "EXTRACT",
    "HOST",
    "QUEUES",
    "Asked",
    "Done",
    "Kind",
    "LostStage",
    "Stage",
    "family",
    "host_queue",
    "part",
    "project_of",
    "session_of",
]

ASK = "ask"
AGENT = "agent"
EXTRACT = "extract"
QUEUES = (ASK, AGENT, EXTRACT)
"""Queues any worker may serve; host-bound stages have one more per host."""

HOST = "host"
"""Stands for the queue of the host whose files the stage needs."""


def host_queue(host: str) -> str:
    """The queue of stages that need this host's files."""
    return f"host.{host}"


def family(stage: str) -> str:
    """`extract` of `extract:ab12:0`."""
    return stage.partition(":")[0]


def part(stage: str) -> str:
    """`ab12:0` of `extract:ab12:0`."""
    return stage.partition(":")[2]


def session_of(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The session a stage's input is about, as it was planned; empty for a stage that is about none."""
    session = given.get("session")
    return session if isinstance(session, Mapping) else {}


def project_of(given: Mapping[str, Any]) -> str | None:
    """The id of the project a stage's input is about."""
    found = given.get("project_id") or session_of(given).get("project_id")
    return found if isinstance(found, str) else None


def _nothing_to_say(stage: str, output: Mapping[str, Any]) -> str:
    return "done"


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """One family of stages.

    `run` is the module in `workers/` whose `run` does it. `wants` are families whose outputs it gets, of those it needs.
    `sums` are numbers of its output that are added up over the job while it goes on; of a list its length counts.
    """

    name: str
    queue: str
    run: str
    title: str
    """The name of its attempts' spans; with `numbered` the window's number follows."""
    group: str | None = None
    """The name of the span around all stages of the family; None where attempts sit right under the root."""
    role: RoleName | None = None
    numbered: bool = False
    wants: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()
    says: Callable[[str, Mapping[str, Any]], str] = _nothing_to_say
    """(stage, output) -> what a person who waits is told."""
    decides: tuple[str, ...] = ()
    """Lists in its output whose entries are decisions: the trace shows each."""
    brief: bool = False
    """It calls no model: whoever made it ready may run it at once, whatever its queue."""
    changes_memories: bool = False
    agent: str = ""
    """The agent that proposes what it decides."""
    absorbs: bool = False
    """It merges memories: what it places may come from others that it merged."""
    settles_session: bool = False
    """Its end says what became of the turns its job has taken of a session."""
    publishes: bool = False
    """It brings files up to date and appends what people did to them: no decision of a model, never undone with the job."""
    accounts_for_files: bool = False
    """Its output says of every session file that was found what became of it."""
    essential: bool = False
    """Without it the job has failed, whatever else went well."""
    max_attempts: int | None = None
    """None: as many as any stage gets."""


class Asked(msgspec.Struct, frozen=True):
    """What a job is planned from. `projects` are project ids, where somebody chose them."""

    params: Mapping[str, Any]
    host: str
    projects: Sequence[str] = ()


class LostStage(msgspec.Struct, frozen=True):
    """A stage that was given up (`dead`) or never ran (`skipped`). `code`: of the last failed attempt, where that said one."""

    stage: str
    state: str
    reason: str
    code: str
    input: Mapping[str, Any]
    needs: Sequence[str]


class Done(Protocol):
    """A job whose stages are all settled, as its last stage sees it."""

    @property
    def request(self) -> JobRequested: ...

    @property
    def lost(self) -> Sequence[LostStage]:
        """In the order of the plan."""
        ...

    def outputs(self, name: str) -> Sequence[Mapping[str, Any]]:
        """Of the family's completed stages, in the order of the plan."""
        ...

    def sums(self, name: str) -> Mapping[str, int]:
        """The family's sums over all its completed stages; a name nobody added to is missing."""
        ...

    def completed(self, name: str) -> int:
        """How many stages of the family were completed."""
        ...


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of job. `stages` has every family it may have, its last stage included."""

    name: str
    title: str
    """The name of its root span."""
    stages: tuple[Stage, ...]
    first: Callable[[Asked], list[StageRequested]]
    """The stages it is requested with; its last one comes behind all others."""
    result: Callable[[Done], dict[str, Any]]
    """What its end tells besides what every job's does."""
    status: Callable[[Done], JobStatus]
    covers_projects: bool = True
    """It may touch every registered project: the strictest of their settings holds."""
