"""Which [tracing] settings a job gets, and the lines that tell a user what they may not expect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import msgspec

from lerim_jobs import config
from lerim_jobs.config import Settings, tracing_warning
from lerim_jobs.errors import ConfigError
from lerim_jobs.tracing.propagation import sdk_disabled

__all__ = ["installed", "job_settings", "warnings"]

_NO_LOGFIRE = (
    "tracing is on without the logfire package: spans go to the local store and to OTLP, not to Logfire; "
    "`pip install 'lerim-jobs[trace]'` adds it"
)


def job_settings(env: Mapping[str, str], *, here: Path | None, covers: Iterable[Path]) -> Settings:
    """The settings of a job that is asked for in the project folder `here` and works on the projects in `covers`.

    A trace is one for all of them, so content leaves only where every project lets it. A project whose own file is wrong is not
    worked on, and has no say. Raises ConfigError for the user's own file.
    """
    mine = config.load(env)
    settings = _of(env, here) or mine
    others = [one.tracing for folder in covers if (one := _of(env, folder))]
    tracing = msgspec.structs.replace(
        settings.tracing,
        include_content=all(one.include_content for one in (settings.tracing, *others)),
        include_httpx=all(one.include_httpx for one in (settings.tracing, *others)),
    )
    return msgspec.structs.replace(settings, tracing=tracing)


def _of(env: Mapping[str, str], project: Path | None) -> Settings | None:
    try:
        return config.load(env, project=project)
    except ConfigError:
        return None


def warnings(settings: Settings, env: Mapping[str, str]) -> list[str]:
    """Lines for whoever asks for a job: a variable that switches nothing off, and an extra that is not there."""
    found = [line] if (line := tracing_warning(settings, env)) else []
    if settings.tracing.enabled and not sdk_disabled(env) and not installed("logfire"):
        found.append(_NO_LOGFIRE)
    return found


def installed(package: str) -> bool:
    """Whether a top-level package can be imported; looks, but loads nothing."""
    try:
        return find_spec(package) is not None
    except (ImportError, ValueError):
        return False
