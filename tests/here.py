"""Whole jobs in this very process: the real runner, log, stages, agents and files, without Redis and worker processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lerim_jobs import config, ids
from lerim_jobs.jobs import job as jobs
from lerim_jobs.jobs.cancelling import cancel
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import Event, JobKind, JobRequested, ProjectAdded
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.log.store import StageRow
from lerim_jobs.machine import identity
from lerim_jobs.memory.memory import Memory
from lerim_jobs.memory.stored import all_memories, memory_stream
from lerim_jobs.paths import Home
from lerim_jobs.projects import project_stream
from lerim_jobs.tracing.export.backends import start
from tests.transcripts import write_claude
from workers.leases import Leases
from workers.runner import Runner

__all__ = ["Here"]

_ROLE = '[roles.{role}]\nprovider = "openai"\nmodel = "{role}-model"\napi_base = "{url}"\n'
PROJECT = "p1"


@dataclass
class Here:
    """A machine below `root` with one project; `url` is a model server, empty for the offline model."""

    root: Path
    url: str = ""
    settings: str = ""
    sampled: bool = False
    due: list[tuple[str, str]] = field(default_factory=list)
    numbers: int = 0

    def __post_init__(self) -> None:
        self.home = Home(self.root / "h")
        self.project = self.root / "shop"
        for folder in (self.home.root, self.project, self.root / "claude"):
            folder.mkdir(parents=True)
        roles = "".join(_ROLE.format(role=role, url=self.url) for role in config.ROLES) if self.url else ""
        self.home.config.write_text(roles + self.settings, "utf-8")
        self.env = {
            "HOME": str(self.root),
            "LERIM_HOME": str(self.home.root),
            "CLAUDE_CONFIG_DIR": str(self.root / "claude"),
            "CODEX_HOME": str(self.root / "codex"),
            "OPENAI_API_KEY": "sk-test-0123456789abcdef0123456789",
            **({} if self.url else {"LERIM_PROVIDER": "offline"}),
        }
        self.store = SqliteStore(self.home.log)
        loaded = config.load(self.env)
        self.runner = Runner(
            store=self.store,
            home=self.home,
            env=self.env,
            owner=identity.me(),
            host=identity.host_name(),
            leases=Leases(self.store),
            telemetry=start(self.home, loaded, self.env),
            send=self._send,
            caps=lambda: loaded,
        )
        added = ProjectAdded(PROJECT, "shop", str(self.project), identity.host_name())
        self.store.append(project_stream(PROJECT), [added], expected=0)

    def session(self, session_id: str, says: Sequence[str], *, day: int = 1) -> Path:
        """A Claude Code session in the project's folder."""
        return write_claude(self.root / "claude", session_id, str(self.project), says, day=day)

    def run(self, kind: JobKind, **params: Any) -> tuple[str, dict[str, Any]]:
        """A job to its end: its id and result."""
        job_id = self.left(kind, **params)
        finished = jobs.load(self.store, job_id).finished
        assert finished, [row.event for row in self.store.read(f"job-{job_id}")][-3:]
        return job_id, {**finished.result, "status": finished.status}

    def _asked(self, kind: JobKind, params: dict[str, Any]) -> str:
        self.numbers += 1
        job_id = f"{kind}-{self.numbers}"
        trace_id = ids.trace_id()
        event = JobRequested(
            kind=kind,
            params=params,
            scope="all",
            requested_by="test",
            host=identity.host_name(),
            trace_id=trace_id,
            root_span_id=ids.span_id(trace_id, "root"),
            start_ns=time.time_ns(),
            sampled=self.sampled,
        )
        self._send(request_job(self.store, job_id, event, projects=[PROJECT]).freed)
        return job_id

    def left(self, kind: JobKind, **params: Any) -> str:
        """A job as it is left when nothing of it is due any more: its id."""
        job_id = self._asked(kind, params)
        while self.due:
            self.runner.run_hint(*self._next())
        return job_id

    def cancelled(self, kind: JobKind, *, before: str, **params: Any) -> str:
        """A job that is cancelled when only stages of this family are left to run: its id."""
        job_id = self._asked(kind, params)
        while any(not stage.startswith(before) for _, stage in self.due):
            self.due.sort(key=lambda one: one[1].startswith(before))
            self.runner.run_hint(*self._next())
        self.due.clear()
        cancel(self.store, job_id)
        return job_id

    def sync(self, **params: Any) -> dict[str, Any]:
        """A sync's result."""
        return self.run("sync", **params)[1]

    def append(self, memory_id: str, *events: Event) -> None:
        """What somebody does by hand."""
        self.store.append(memory_stream(memory_id), list(events))

    def memories(self, *statuses: str) -> list[Memory]:
        """Memories that are no summaries, active ones unless other statuses are named, by title."""
        found = [one for one in all_memories(self.store).values() if one.kind != "summary"]
        return sorted(
            (one for one in found if one.status in (statuses or ("active",))),
            key=lambda one: (one.title, one.memory_id),
        )

    def events(self, job_id: str, *kinds: str) -> list[Any]:
        """The job's events of some types."""
        return [row.event for row in self.store.read(f"job-{job_id}") if row.type in kinds]

    def close(self) -> None:
        """Close what is open."""
        self.runner.telemetry.shutdown()
        self.store.close()

    def _send(self, rows: Sequence[StageRow]) -> None:
        self.due += [(row.job_id, row.stage) for row in rows]

    def _next(self) -> tuple[str, str]:
        """The first stage that is due, once it is."""
        job_id, stage = self.due.pop(0)
        row = next((row for row in self.store.stages(job_id) if row.stage == stage), None)
        if row:
            time.sleep(max(0, row.due_ms - self.store.now_ms()) / 1000)
        return job_id, stage
