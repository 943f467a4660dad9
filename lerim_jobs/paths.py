"""Where things lie on disk: the state folder (`$LERIM_HOME`, default `~/.lerim`) and a project's `.lerim` folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from lerim_jobs.errors import ConfigError

__all__ = ["Home", "home", "memory_dir", "project_config"]


class Home(msgspec.Struct, frozen=True):
    """The state folder. Reading an attribute touches nothing on disk; `ensure` creates it, mode 0700."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def env_file(self) -> Path:
        return self.root / ".env"

    @property
    def log(self) -> Path:
        return self.root / "log.sqlite3"

    @property
    def traces(self) -> Path:
        return self.root / "traces.sqlite3"

    @property
    def search(self) -> Path:
        return self.root / "search.sqlite3"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def ensure(self) -> Home:
        """Create the folder and its rooms. Raises ConfigError naming the path when it cannot be written."""
        try:
            for folder in (self.root, self.redis, self.run, self.logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.root.chmod(0o700)
            probe = self.run / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as exc:
            raise ConfigError(
                f"cannot write the state folder {str(self.root)!r}: {exc.strerror}. "
                "Set LERIM_HOME to a folder you can write."
            ) from exc
        return self


def home(env: Mapping[str, str]) -> Home:
    """The state folder named by the environment; nothing is created."""
    return Home(Path(env.get("LERIM_HOME") or "~/.lerim").expanduser().absolute())


def project_config(project: Path) -> Path:
    """The project's own settings file."""
    return project / ".lerim" / "config.toml"


def memory_dir(project: Path) -> Path:
    """Where a project's memories lie as markdown."""
    return project / ".lerim" / "memory"
