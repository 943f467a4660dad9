"""Where things lie on disk: the state folder (`$LERIM_HOME`, default `~/.lerim`) and a project's `.lerim` folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from lerim_jobs.errors import ConfigError

__all__ = ["Home", "home", "make_private", "memory_dir", "project_config"]


class Home(msgspec.Struct, frozen=True):
    """The state folder. Reading an attribute touches nothing on disk; `ensure` makes what is missing, mode 0700."""

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

    @property
    def before_restore(self) -> Path:
        """What was there before each restore, a folder each."""
        return self.root / "before-restore"

    @property
    def restoring(self) -> Path:
        """There while a restore moves files, and after one that was killed then."""
        return self.root / "restoring.json"

    def ensure(self) -> Home:
        """Make the folder and its rooms; one that is there keeps its mode: others may use it too.

        Raises ConfigError naming the path when it cannot be written, or while a restore stands in its middle.
        """
        if self.restoring.exists():
            raise ConfigError(
                f"a restore of {str(self.root)!r} is under way or was interrupted: `lerim restore --finish` completes it, "
                "`lerim restore --roll-back` puts back what was there"
            )
        try:
            for folder in (self.redis, self.run, self.logs):
                make_private(folder)
            probe = self.run / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as exc:
            raise ConfigError(
                f"cannot write the state folder {str(self.root)!r}: {exc.strerror}. "
                "Set LERIM_HOME to a folder you can write."
            ) from exc
        return self


def make_private(folder: Path) -> None:
    """Make the folder and what is missing above it, for their owner alone. Raises OSError."""
    for missing in reversed([one for one in (folder, *folder.parents) if not one.is_dir()]):
        missing.mkdir(mode=0o700, exist_ok=True)


def home(env: Mapping[str, str]) -> Home:
    """The state folder named by the environment; nothing is created."""
    return Home(Path(env.get("LERIM_HOME") or "~/.lerim").expanduser().absolute())


def project_config(project: Path) -> Path:
    """The project's own settings file."""
    return project / ".lerim" / "config.toml"


def memory_dir(project: Path) -> Path:
    """Where a project's memories lie as markdown."""
    return project / ".lerim" / "memory"
