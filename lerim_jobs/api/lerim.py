"""The service: what commands, and programs, ask lerim for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lerim_jobs.api.results import Context, Job, Memory, Progress, ShownMemory, Status
from lerim_jobs.api.state import State, find_project, open_state, project_here
from lerim_jobs.errors import BadInput
from lerim_jobs.memory.memory import By
from lerim_jobs.projects import active_projects

if TYPE_CHECKING:
    from lerim_jobs.api.following import Steps
    from lerim_jobs.log.events import JobKind
    from lerim_jobs.memory.search.index import SearchIndex

__all__ = ["Lerim", "open"]

Show = Callable[[Progress], object] | None


def open(
    home: Path | str | None = None, *, env: Mapping[str, str] | None = None, here: Path | str | None = None
) -> Lerim:
    """Open the state folder `home` (default: `LERIM_HOME`, else `~/.lerim`); it is made when it is missing.

    `env` stands for the environment of this process, `here` for its current folder. Raises ConfigError, StoreUnavailable.
    """
    full = dict(os.environ if env is None else env)
    if home is not None:
        full["LERIM_HOME"] = str(home)
    return Lerim(open_state(full, here=Path(here) if here else None))


class Lerim:
    """An opened state folder, to be closed at the end: a context manager. Threads may share one.

    `project` is a registered project's name or folder everywhere. What is not a result (a worker was started, Redis did
    not answer) goes to the logger `lerim_jobs.api`.
    """

    def __init__(self, state: State) -> None:
        self.state = state

    def __enter__(self) -> Lerim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the files."""
        if "_index" in self.__dict__:
            self._index.close()
        self.state.store.close()

    # --- jobs: each returns how the job ended, or with `wait=False` at once, as it was asked for ---
    def ask(
        self,
        question: str,
        *,
        project: str | None = None,
        limit: int = 12,
        as_of: str | None = None,
        by: By = "said",
        wait: bool = True,
        timeout_s: float | None = None,
        on_progress: Show = None,
    ) -> Job:
        """Answer from the memories of `project` (default: the one `here` is in, else all), looking at `limit` of them.

        `as_of` (ISO 8601) asks about an earlier day or time, `by` what had been said, or what the log had then. Raises
        WaitTimeout after `timeout_s`; the job goes on then.
        """
        from lerim_jobs.sessions.secrets import redact

        if not question.strip():
            raise BadInput("the question is empty")
        about = find_project(self.state, project) if project else project_here(self.state)
        params: dict[str, Any] = {"question": redact(question)[0], "limit": _within("limit", limit, 1, 100)}
        params["project_id"] = about.project_id if about else None
        if as_of:
            from lerim_jobs.memory.search.asof import as_of_ms

            params |= {"as_of_ms": as_of_ms(as_of), "as_of_by": by}
        return self._run("ask", params, (), wait, timeout_s, on_progress)

    def sync(
        self,
        *,
        agents: Sequence[str] = (),
        window: str | None = None,
        since: str | None = None,
        until: str | None = None,
        max_sessions: int | None = None,
        session_id: str | None = None,
        force: bool = False,
        settled: bool = False,
        dry_run: bool = False,
        estimate: bool = False,
        wait: bool = True,
        timeout_s: float | None = None,
        on_progress: Show = None,
    ) -> Job:
        """Turn new and grown sessions into memories.

        Which: those of `agents`, active within `window` (`7d`, `all`) or `since` and `until` (ISO 8601), at most
        `max_sessions`, or the one whose id begins with `session_id`; with `settled` only what nobody works in any more, as
        the scheduler does. `force` extracts again; `dry_run` keeps nothing;
        `estimate` calls no model and has its figures in `result["estimate"]`.
        """
        from lerim_jobs.api.asking import sync_params

        params = sync_params(
            self.state, agents=agents, window=window, since=since, until=until, max_sessions=max_sessions
        )
        params |= {"session_id": session_id, "force": force, "dry_run": dry_run}
        if settled:
            params["settle_ms"] = self.state.settings.schedule.settle_ms
        if estimate:
            params["estimate"] = True
        if not active_projects(self.state.store):
            self.state.tell("No project is registered, so nothing will be extracted: `lerim project add PATH`.")
        return self._run("sync", params, (), wait, timeout_s, on_progress)

    def maintain(
        self,
        *,
        project: str | None = None,
        force: bool = False,
        dry_run: bool = False,
        wait: bool = True,
        timeout_s: float | None = None,
        on_progress: Show = None,
    ) -> Job:
        """Merge duplicates and archive what faded, in `project` or in all. `force` looks at unchanged memories again."""
        state = self.state
        projects = [find_project(state, project).project_id] if project else [*active_projects(state.store)]
        if not projects:
            raise BadInput("no project is registered: `lerim project add PATH`")
        params = {"project_ids": projects, "force": force, "dry_run": dry_run}
        return self._run("maintain", params, projects, wait, timeout_s, on_progress)

    def follow(self, job_id: str, *, timeout_s: float | None = None, worker: bool = True) -> Steps:
        """Yield each step of a job until it has ended or is parked; the generator's value is what `job` then gives.

        Where no worker runs one is started for that long, unless `worker` is False. Raises WaitTimeout.
        """
        from lerim_jobs.api.asking import followed

        return followed(self.state, job_id, timeout_s=timeout_s, worker=worker)

    def job(self, job_id: str) -> Job:
        """One job as it stands now. Raises BadInput for an id nobody knows."""
        from lerim_jobs.api.standing import job

        return job(self.state, job_id)

    def jobs(self, *, status: str | None = None, limit: int = 20) -> list[Job]:
        """The newest jobs first."""
        from lerim_jobs.api.standing import jobs

        return jobs(self.state, status=status, limit=limit)

    # --- reading ---
    def memories(
        self,
        *,
        project: str | None = None,
        kind: str | None = None,
        everything: bool = False,
        as_of: str | None = None,
        by: By = "said",
        limit: int = 1000,
    ) -> list[Memory]:
        """What was said last first; `everything` includes archived, merged, undone and redacted ones. `as_of` and `by` as
        for `ask`.
        """
        from lerim_jobs.api.memories import listed, listed_then

        state, most = self.state, _within("limit", limit, 1)
        if as_of:
            return listed_then(state, project=project, kind=kind, everything=everything, as_of=as_of, by=by, limit=most)
        return listed(state, self._index, project=project, kind=kind, everything=everything, limit=most)

    def search(
        self, query: str, *, project: str | None = None, as_of: str | None = None, by: By = "said", limit: int = 20
    ) -> list[Memory]:
        """Memories by their words, the best match first."""
        from lerim_jobs.api.memories import search, search_then

        most = _within("limit", limit, 1)
        if as_of:
            return search_then(self.state, query, project=project, as_of=as_of, by=by, limit=most)
        return search(self.state, self._index, query, project=project, limit=most)

    def show(self, memory_id: str) -> ShownMemory:
        """One memory, by its id or the beginning of it, with where it came from. Looking at it counts as use."""
        from lerim_jobs.api.memories import show

        return show(self.state, memory_id)

    def context(self, *, project: str | None = None, budget_tokens: int = 1500) -> Context:
        """The most useful memories of `project` (default: the one `here` is in) as markdown, for a coding agent."""
        from lerim_jobs.api.memories import context

        budget = _within("budget_tokens", budget_tokens, 100)
        return context(self.state, self._index, project=project, budget_tokens=budget)

    def status(self) -> Status:
        """Workers, jobs, projects, sessions and disk use."""
        from lerim_jobs.api.standing import status

        return status(self.state)

    @cached_property
    def _index(self) -> SearchIndex:
        from lerim_jobs.memory.search.embedding import bundled
        from lerim_jobs.memory.search.index import SearchIndex

        embedder = bundled(wanted=self.state.settings.search.embeddings)
        return SearchIndex(self.state.home.search, self.state.store, embedder=embedder)

    def _run(
        self,
        kind: JobKind,
        params: dict[str, Any],
        projects: Sequence[str],
        wait: bool,
        timeout_s: float | None,
        on_progress: Show,
    ) -> Job:
        from lerim_jobs.api.asking import ask_only, attended, new_job
        from lerim_jobs.api.following import drained

        begin = new_job(self.state, kind, params, projects=projects)
        if not wait:
            return ask_only(self.state, begin)
        return drained(attended(self.state, begin, timeout_s), on_progress)


def _within(name: str, value: int, least: int, most: int | None = None) -> int:
    if value < least or (most is not None and value > most):
        upper = f" and at most {most}" if most is not None else ""
        raise BadInput(f"{name} must be at least {least}{upper}, not {value}")
    return value
