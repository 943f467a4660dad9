"""Budget and provider limits as the settings file has them now: raising a cap needs no restart.

Everything else in the settings is read once per process, so that one job never sees two of them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping

import msgspec

from lerim_jobs import config
from lerim_jobs.config import Settings
from lerim_jobs.errors import ConfigError
from lerim_jobs.paths import home

__all__ = ["Caps"]

_log = logging.getLogger(__name__)
_LOOK_S = 1.0


class Caps:
    """Looks at the file's time stamp at most once a second. A file that got broken leaves the caps as they were."""

    def __init__(self, env: Mapping[str, str], settings: Settings) -> None:
        self._env, self._settings = env, settings
        self._path = home(env).config
        self._stamp = self._stat()
        self._looked = time.monotonic()
        self._lock = threading.Lock()

    def now(self) -> Settings:
        """The settings with today's budget and provider limits."""
        with self._lock:
            if time.monotonic() - self._looked > _LOOK_S:
                self._looked = time.monotonic()
                self._reload()
            return self._settings

    def _reload(self) -> None:
        stamp = self._stat()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            fresh = config.load(self._env)
        except ConfigError as exc:
            _log.warning("the caps stay as they were: %s", exc)
            return
        self._settings = msgspec.structs.replace(self._settings, budget=fresh.budget, providers=fresh.providers)

    def _stat(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size
