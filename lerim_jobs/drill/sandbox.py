"""A machine of its own for the drill: state folder, project, sessions, background services, commands."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lerim_jobs import config, faults
from lerim_jobs.config import ROLES
from lerim_jobs.errors import JobsError
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine import supervision
from lerim_jobs.paths import Home

__all__ = ["LEASE_S", "Sandbox"]

LEASE_S = 3
_KEPT = ("PATH", "LANG", "PYTHONPATH", "TMPDIR")
_ROLE = """
[roles.{role}]
provider = "openai"
model = "{role}-model"
fallback_models = ["second-model"]
api_base = "{url}"
timeout_seconds = 5
max_window_tokens = 700
window_overlap_tokens = 20
max_output_tokens = 400
[prices."{role}-model"]
input_per_million = 10.0
output_per_million = 10.0
"""
_REST = """
[prices."second-model"]
input_per_million = 20.0
output_per_million = 20.0
[schedule]
sync_interval_minutes = 1
sync_window = "all"
[budget]
per_job_usd = inf
per_day_usd = {cap}
"""


@dataclass
class Sandbox:
    """Everything below `root`. `url` is the model server's."""

    root: Path
    url: str
    workers: int = 2
    commands: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _starting: threading.Thread | None = None

    def __post_init__(self) -> None:
        for folder in (self.home.root, self.project, self.sessions, self.fault_folder):
            folder.mkdir(parents=True, exist_ok=True)
        self.set_cap("inf")
        self.settings = config.load(self.env)
        self.store = SqliteStore(self.home.ensure().log)

    @property
    def home(self) -> Home:
        return Home(self.root / "home")

    @property
    def project(self) -> Path:
        return self.root / "shop"

    @property
    def sessions(self) -> Path:
        return self.root / "claude" / "projects" / "shop"

    @property
    def fault_folder(self) -> Path:
        return self.root / "faults"

    @property
    def env(self) -> dict[str, str]:
        """Nothing of the user's own settings or keys gets in."""
        return {
            **{key: os.environ[key] for key in _KEPT if key in os.environ},
            "HOME": str(self.root),
            "LERIM_HOME": str(self.home.root),
            "CLAUDE_CONFIG_DIR": str(self.root / "claude"),
            "CODEX_HOME": str(self.root / "codex"),
            "LERIM_TRACING": "1",
            "LERIM_LEASE_S": str(LEASE_S),
            "OPENAI_API_KEY": "sk-drill",
            faults.VARIABLE: str(self.fault_folder),
        }

    def set_cap(self, dollars_a_day: str) -> None:
        """Write the settings file anew, whole and at once: workers read it while they run."""
        text = "".join(_ROLE.format(role=role, url=self.url) for role in ROLES) + _REST.format(cap=dollars_a_day)
        fresh = self.home.config.with_suffix(".fresh")
        fresh.write_text(text, "utf-8")
        fresh.replace(self.home.config)

    def up(self) -> None:
        """Start workers and scheduler in the background, if they are not there."""
        supervision.up(self.home, self.settings, self.env, workers=self.workers)

    def keep_up(self, say: Callable[[str], None]) -> None:
        """Start what was killed, as a person would with `lerim up`, while everything else goes on."""
        busy = self._starting is not None and self._starting.is_alive()
        if not busy and not supervision.state(self.home).running:
            self._starting = threading.Thread(target=self._try_up, args=(say,), daemon=True)
            self._starting.start()

    def _try_up(self, say: Callable[[str], None]) -> None:
        try:
            self.up()
        except JobsError as exc:
            say(f"         not up yet: {exc}")

    def down(self) -> None:
        """End all of it, commands first."""
        if self._starting:
            self._starting.join()
        for command in self.commands:
            command.kill()
            command.wait()
        supervision.down(self.home)

    def lerim(self, *arguments: str, wait: bool = False) -> None:
        """Run a command, by itself unless `wait`; what becomes of it is in the log."""
        self.commands = [one for one in self.commands if one.poll() is None]
        with (self.root / "commands.log").open("ab") as log:
            command = subprocess.Popen(
                [sys.executable, "-m", "lerim_jobs.cli", *arguments],
                env=self.env,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.commands.append(command)
        if wait:
            command.wait(60)
