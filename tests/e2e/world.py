"""A user's machine in a temporary folder: real commands, real workers, a real Redis, a scripted model server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import psutil

from lerim_jobs.log.codec import Recorded
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine.processes import workers_running
from lerim_jobs.paths import Home, make_private
from tests.transcripts import write_claude
from tests.waiting import until
from tests.zygote import Forked, fork, mark, run

__all__ = ["World"]

_CONFIG = """
[roles.lead]
provider = "openai"
model = "lead-model"
api_base = "{url}"
{lead}{extra}
[roles.explorer]
provider = "openai"
model = "explorer-model"
api_base = "{url}"
{extra}
[roles.extract]
provider = "openai"
model = "extract-model"
api_base = "{url}"
max_window_tokens = {window}
window_overlap_tokens = 20
{extract}
{extra}
[roles.summarize]
provider = "openai"
model = "summarize-model"
api_base = "{url}"
{extra}
"""

_NARROWER = """
[roles.lead]
{lead}
[roles.extract]
max_window_tokens = {window}
window_overlap_tokens = 20
{extract}
"""

Running = Forked | subprocess.Popen[bytes]


@dataclass
class World:
    """Everything below `root`; `url` is the model server, empty for the offline model."""

    root: Path
    url: str = ""
    extra_env: dict[str, str] = field(default_factory=dict)
    processes: list[Running] = field(default_factory=list)
    name: str = "shop"
    python: str = ""
    """Another interpreter, for tests of what is installed; processes are then started anew."""

    def __post_init__(self) -> None:
        make_private(self.home.root)
        for folder in (self.project, self.claude, self.codex):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def home(self) -> Home:
        return Home(self.root / "h")

    @property
    def project(self) -> Path:
        return self.root / self.name

    @property
    def claude(self) -> Path:
        return self.root / "claude"

    @property
    def codex(self) -> Path:
        return self.root / "codex"

    @property
    def env(self) -> dict[str, str]:
        keep = {key: os.environ[key] for key in ("PATH", "LANG", "PYTHONPATH", "TMPDIR") if key in os.environ}
        return {
            **keep,
            "HOME": str(self.root),
            "LERIM_HOME": str(self.home.root),
            "CLAUDE_CONFIG_DIR": str(self.claude),
            "CODEX_HOME": str(self.codex),
            "LERIM_TRACING": "1",
            "NO_COLOR": "1",
            "OPENAI_API_KEY": "sk-test-0123456789abcdef0123456789",
            **({} if self.url else {"LERIM_PROVIDER": "offline"}),
            **self.extra_env,
        }

    # --- set-up ---
    def configure(
        self, *, window: int = 2000, lead: str = "", extract: str = "", extra: str = "", project: bool = False
    ) -> None:
        """Point all four roles at the model server; with `project` say what a project's own file may say for the current one."""
        form = _NARROWER if project else _CONFIG
        text = form.format(url=self.url, window=window, lead=lead, extract=extract, extra=extra)
        path = self.project / ".lerim" / "config.toml" if project else self.home.config
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")

    def move_to(self, name: str) -> None:
        """Go on in another project of the same machine."""
        self.name = name
        self.project.mkdir()
        self.lerim("project", "add", str(self.project))

    def known(self, title: str) -> None:
        """Keep a memory by hand, so that the lead has something to compare with."""
        self.lerim("memory", "add", title, "--project", str(self.project))

    def session(self, session_id: str, says: Sequence[str], *, day: int = 1) -> Path:
        """A Claude Code session in the project's folder."""
        return write_claude(self.claude, session_id, str(self.project), says, day=day)

    # --- commands ---
    def lerim(self, *arguments: str, expect: int | None = 0, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `expect` None accepts any exit code."""
        if self.python:
            command, options = self._command("lerim_jobs.cli", arguments)
            done = subprocess.run(command, **options, capture_output=True, text=True, timeout=timeout_s, check=False)
        else:
            done = run("lerim_jobs.cli", arguments, self.env, cwd=self.root, timeout_s=timeout_s)
        if expect is not None:
            assert done.returncode == expect, (
                f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.logs()}"
            )
        return done

    def json(self, *arguments: str, expect: int | None = 0, timeout_s: float = 60) -> list[dict[str, Any]]:
        """A command's `--json` lines."""
        done = self.lerim(*arguments, "--json", expect=expect, timeout_s=timeout_s)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def sync(self, *arguments: str, expect: int | None = 0, timeout_s: float = 60) -> dict[str, Any]:
        """`lerim sync --window all --json`: its last line."""
        return self.json("sync", "--window", "all", *arguments, expect=expect, timeout_s=timeout_s)[-1]

    def memories(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Active memories except summaries, or those of one kind."""
        found = self.json("memory", "list", "--project", self.name)
        return [one for one in found if (one["kind"] != "summary" if kind is None else one["kind"] == kind)]

    def trace(self, job_id: str) -> list[dict[str, Any]]:
        """The job's spans."""
        return self.json("trace", "show", job_id)

    # --- processes ---
    @contextmanager
    def workers(self, count: int = 1, *, slots: int = 4) -> Iterator[list[Running]]:
        """Real worker processes (each a dramatiq master with one child), ended by process id."""
        started = [self.start("workers", "--slots", str(slots)) for _ in range(count)]
        try:
            until(lambda: len(workers_running(self.home)) >= count, 90, what=f"{count} workers")
            yield started
        finally:
            for process in started:
                self.stop(process)

    def start(self, module: str, *arguments: str) -> Running:
        """Start `python -m module` in a session of its own, its output beside the state folder."""
        with (self.root / f"{module}-{len(self.processes)}.log").open("wb") as log:
            process = self._begin(module, arguments, log, log)
        self.processes.append(process)
        return process

    def _begin(self, module: str, arguments: Sequence[str], out: IO[bytes], err: IO[bytes]) -> Running:
        if not self.python:
            return fork(module, arguments, self.env, cwd=self.root, out=out, err=err)
        command, options = self._command(module, arguments)
        return subprocess.Popen(command, stdout=out, stderr=err, **options)

    def _command(self, module: str, arguments: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
        options = {"stdin": subprocess.DEVNULL, "env": self.env, "cwd": self.root, "start_new_session": True}
        return [self.python, "-m", module, *arguments], options

    def stop(self, process: Running) -> None:
        """SIGTERM, then SIGKILL for it and its children."""
        family = _family(process.pid)
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)

    def kill_working_child(self, process: Running) -> int:
        """SIGKILL the child that runs stages and return its pid; the master then ends by itself."""
        child = max(psutil.Process(process.pid).children(), key=lambda one: one.memory_info().rss)
        os.kill(child.pid, signal.SIGKILL)
        return child.pid

    def close(self) -> None:
        """End everything that was started, the embedded Redis last."""
        for process in self.processes:
            self.stop(process)
        self.lerim("down", expect=None)

    # --- looking ---
    def events(self, job_id: str) -> list[Recorded]:
        """The job's stream."""
        store = SqliteStore(self.home.log)
        try:
            return store.read(f"job-{job_id}")
        finally:
            store.close()

    def logs(self) -> str:
        """The end of every log, for failing tests."""
        files = [*self.root.glob("*.log"), *self.home.logs.glob("*.log")]
        return "\n".join(f"--- {path.name}\n{path.read_text('utf-8', 'replace')[-3000:]}" for path in files)

    def ours(self) -> list[str]:
        """Command lines of processes that still run with this state folder in their environment."""
        mine = []
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                marked = process.name() == mark(str(self.home.root))
                if process.pid != os.getpid() and (
                    marked or process.environ().get("LERIM_HOME") == str(self.home.root)
                ):
                    mine.append(" ".join(process.cmdline()))
        return mine


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
