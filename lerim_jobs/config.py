"""Settings: environment over what a project's file may say over user file over defaults; an error names file, line and key."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lerim_jobs.errors import ConfigError
from lerim_jobs.paths import Home, home, project_config
from lerim_jobs.project_file import narrowed
from lerim_jobs.settings import (
    ROLES,
    Agent,
    AgentSetting,
    Budget,
    Decay,
    Memory,
    Price,
    Provider,
    Queue,
    Retention,
    Role,
    RoleName,
    Roles,
    Schedule,
    Search,
    Settings,
    Tracing,
)

__all__ = [
    "ROLES",
    "Agent",
    "AgentSetting",
    "Budget",
    "Decay",
    "Memory",
    "Price",
    "Provider",
    "Queue",
    "Retention",
    "Role",
    "RoleName",
    "Roles",
    "Schedule",
    "Search",
    "Settings",
    "Tracing",
    "environment",
    "load",
    "load_with_said",
    "load_with_sources",
    "tracing_from_environment",
    "tracing_warning",
]

# Where a role differs from `Role`, so that a table that sets one key keeps the others.
_DEFAULTS: dict[str, Any] = {"roles": {"lead": {"timeout_seconds": 300.0}, "explorer": {"max_iterations": 8}}}
_USER_BYTES, _PROJECT_BYTES = 1_048_576, 65_536
_TRUE = {"1", "true", "yes", "on"}


def load(env: Mapping[str, str], *, project: Path | None = None) -> Settings:
    """Read the user file, then what the project's file may say over it, then the environment over both. Raises ConfigError."""
    return load_with_sources(env, project=project)[0]


def load_with_sources(env: Mapping[str, str], *, project: Path | None = None) -> tuple[Settings, dict[str, str]]:
    """`load`, and where each key that is not a default came from: dotted key -> file or environment variable."""
    mine = _layer(home(env).config)
    merged = _merge(_DEFAULTS, mine)
    sources = dict.fromkeys(_keys(mine), str(home(env).config))
    if project and (theirs := _layer(project_config(project), most_bytes=_PROJECT_BYTES)):
        path = project_config(project)
        layer = narrowed(theirs, _convert(merged, None), mine, lambda key, why: ConfigError(_located(path, key, why)))
        merged = _merge(merged, layer)
        sources |= dict.fromkeys(_keys(theirs), str(path))
    for variable, layer in _from_environment(env):
        merged = _merge(merged, layer)
        sources |= dict.fromkeys(_keys(layer), variable)
    return _convert(merged, None), sources


def load_with_said(env: Mapping[str, str], *, project: Path | None) -> tuple[Settings, dict[str, Any]]:
    """`load`, and what of it the project's own file says: dotted key -> its value as it counts."""
    settings, sources = load_with_sources(env, project=project)
    own = [key for key, source in sources.items() if project and source == str(project_config(project))]
    return settings, {key: _value(settings, key) for key in own}


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The process environment with the keys of `<home>/.env` under it: a real variable wins over the file."""
    process = dict(os.environ if env is None else env)
    return {**_dotenv(home(process)), **process}


def tracing_from_environment(env: Mapping[str, str]) -> bool:
    """`LERIM_TRACING` in {1, true, yes, on}, any case, trimmed. It only ever enables."""
    return env.get("LERIM_TRACING", "").strip().lower() in _TRUE


def tracing_warning(settings: Settings, env: Mapping[str, str]) -> str | None:
    """The line for somebody who tries to switch tracing off with a variable that only switches on; None for all others."""
    given = env.get("LERIM_TRACING", "").strip()
    if not given or tracing_from_environment(env) or not settings.tracing.enabled:
        return None
    return (
        f"LERIM_TRACING={given} switches nothing off: tracing stays on by [tracing] enabled = true; "
        "set enabled = false in the settings file, or OTEL_SDK_DISABLED=true"
    )


def _dotenv(state: Home) -> dict[str, str]:
    try:
        lines = state.env_file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    pairs = (re.fullmatch(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*", line) for line in lines)
    return {pair[1]: pair[2].strip("'\"") for pair in pairs if pair}


def _from_environment(env: Mapping[str, str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What each variable sets."""
    if provider := env.get("LERIM_PROVIDER", "").strip():
        role: dict[str, Any] = {"provider": provider}
        if provider == "offline":
            role.update(model="", fallback_models=[])
        yield "LERIM_PROVIDER", {"roles": {name: role for name in ROLES}}
    if url := env.get("LERIM_REDIS_URL", "").strip():
        yield "LERIM_REDIS_URL", {"queue": {"redis_url": url}}
    if tracing_from_environment(env):
        yield "LERIM_TRACING", {"tracing": {"enabled": True}}


def _value(settings: Settings, key: str) -> Any:
    found: Any = settings
    for name in key.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    return found


def _keys(layer: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in layer.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _layer(path: Path, *, most_bytes: int = _USER_BYTES) -> dict[str, Any]:
    """What a file says, of the right types; nothing where there is no file."""
    if not path.is_file():
        return {}
    layer = _read(path, most_bytes)
    _convert(layer, path)
    return layer


def _read(path: Path, most_bytes: int) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
        if len(data) > most_bytes:
            raise ConfigError(f"{path}: larger than {most_bytes // 1024} KiB: it is not read")
        return tomllib.loads(data.decode("utf-8"))
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path}: not valid TOML: {exc}") from exc
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: nested too deeply") from None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{path}: cannot be read: {exc}") from exc


def _merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    both = dict(low)
    for key, value in high.items():
        old = both.get(key)
        both[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return both


def _convert(data: dict[str, Any], path: Path | None) -> Settings:
    try:
        return msgspec.convert(data, Settings)
    except msgspec.ValidationError as exc:
        raise ConfigError(_explain(str(exc), path)) from exc


def _explain(message: str, path: Path | None) -> str:
    """`Expected `bool`, got `str` - at `$.tracing.enabled`` becomes `file:line: tracing.enabled: …`."""
    problem, _, where = message.partition(" - at `$")
    key = where.rstrip("`").strip(".")
    if unknown := re.search(r"unknown field `(.+?)`", problem):
        key = f"{key}.{unknown[1]}".strip(".")
        problem = "there is no such setting"
    key = re.sub(r"\[\.\.\.\]", "", key) or "top level"
    problem = f"{problem[:1].lower()}{problem[1:]}"
    return _located(path, key, problem) if path else f"{key}: {problem}"


def _located(path: Path, key: str, problem: str) -> str:
    return f"{path}:{_line_of(path, key)}: {key}: {problem}"


def _line_of(path: Path, key: str) -> int:
    """The line where the dotted key is set, as well as it can be told from the text; 1 when it cannot."""
    table, name = key.rpartition(".")[::2]
    assignment = re.compile(rf'\s*(?:"?{re.escape(name)}"?|{re.escape(key)})\s*=')
    current = ""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]", line):
            current = header[1].replace('"', "")
            if current == key:
                return number
        elif assignment.match(line) and current in (table, ""):
            return number
    return 1
