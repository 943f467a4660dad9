"""`lerim models`: which model each role uses, where that was set, and whether it answers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from lerim_jobs.api.state import State, project_here
from lerim_jobs.cli.output import emit, json_option, note, print_line, table
from lerim_jobs.cli.state import open_state
from lerim_jobs.config import ROLES, RoleName, load_with_sources
from lerim_jobs.errors import EXIT_DONE, EXIT_FAILED, EXIT_USAGE
from lerim_jobs.providers import ModelChoice, RoleChoice, resolve

__all__ = ["models"]


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> int:
    """Show the model of each role; `lerim models check` asks each of them something."""
    if ctx.invoked_subcommand:
        return EXIT_DONE
    state = open_state()
    rows = role_rows(state)
    if as_json:
        for row in rows:
            emit(row)
    else:
        _show(rows)
    missing = [row for row in rows if row["missing_keys"]]
    for row in missing if not as_json else ():
        note(
            f"roles.{row['role']}: no key: set {', '.join(row['missing_keys'])} in the environment or in ~/.lerim/.env"
        )
    return EXIT_USAGE if missing else EXIT_DONE


@models.command()
@click.option("--wait-timeout-s", type=float, help="Stop waiting after so many seconds; the job goes on.")
@json_option
def check(wait_timeout_s: float | None, as_json: bool) -> int:
    """Ask the model of each role for one word, and show who answered."""
    from lerim_jobs.api.asking import attended, new_job
    from lerim_jobs.cli.jobs.follow import follow

    state = open_state()
    job = follow(attended(state, new_job(state, "check", {}), wait_timeout_s))
    results: dict[str, dict[str, Any]] = job.result.get("roles", {})
    for role, result in results.items() if as_json else ():
        emit({"role": role, **result})
    if not as_json:
        headings = ("role", "asked", "answered", "ms", "tokens", "outcome")
        table(
            headings, [_check_row(role, one) for role, one in results.items()], empty=job.error or "nothing came back"
        )
    return EXIT_DONE if results and all(one["ok"] for one in results.values()) else EXIT_FAILED


def role_rows(state: State) -> list[dict[str, Any]]:
    """One row per role: the effective settings, the source of each that is no default, and the keys it lacks."""
    project = project_here(state)
    settings, sources = load_with_sources(state.env, project=Path(project.path) if project else None)
    choices: Mapping[RoleName, RoleChoice] = resolve(settings, state.env)
    rows = []
    for name in ROLES:
        choice = choices[name]
        used = [choice.model, *choice.fallbacks]
        rows.append(
            {
                "role": name,
                "provider": choice.model.provider,
                "model": choice.model.model,
                "api_base": choice.model.api_base,
                "fallback_models": [f"{one.provider}:{one.model}" for one in choice.fallbacks],
                **{
                    key: value
                    for key, value in msgspec.to_builtins(settings.roles.get(name)).items()
                    if key not in ("provider", "model", "api_base", "fallback_models")
                },
                "sources": _sources(name, sources, choice, state.env),
                "keys": {one.key_variable: bool(state.env.get(one.key_variable)) for one in used if one.key_variable},
                "missing_keys": sorted({key for one in used if (key := _missing(one, state.env))}),
            }
        )
    return rows


def _sources(role: RoleName, sources: Mapping[str, str], choice: RoleChoice, env: Mapping[str, str]) -> dict[str, str]:
    """Where each setting of the role came from; what is not named is the default."""
    prefix = f"roles.{role}."
    found = {key.removeprefix(prefix): where for key, where in sources.items() if key.startswith(prefix)}
    model = choice.model
    if "provider" not in found and "api_base" not in found:
        found["provider"] = f"{model.key_variable} is set" if model.key_variable else "ollama answers on this machine"
    if base := sources.get(f"providers.{model.provider}.api_base"):
        found.setdefault("api_base", base)
    return found


def _missing(choice: ModelChoice, env: Mapping[str, str]) -> str | None:
    return choice.key_variable if choice.key_variable and not env.get(choice.key_variable) else None


def _show(rows: list[dict[str, Any]]) -> None:
    headings = ("role", "provider", "model", "fallbacks", "key", "from")
    table(headings, [_role_row(row) for row in rows], empty="")
    for row in rows:
        rest = {
            "timeout": f"{row['timeout_seconds']:g} s",
            "iterations": row["max_iterations"],
            "window": f"{row['max_window_tokens']} tokens, overlap {row['window_overlap_tokens']}",
            "output": f"at most {row['max_output_tokens']} tokens",
            "thinking": row["thinking"],
            "openrouter order": ", ".join(row["openrouter_provider_order"]) or None,
        }
        print_line(f"{row['role']}: " + "; ".join(f"{key} {value}" for key, value in rest.items() if value is not None))


def _role_row(row: dict[str, Any]) -> tuple[object, ...]:
    keys = ", ".join(f"{key} {'there' if there else 'MISSING'}" for key, there in row["keys"].items())
    where = sorted({f"{key}: {source}" for key, source in row["sources"].items()})
    return (
        row["role"],
        row["provider"],
        row["model"],
        ", ".join(row["fallback_models"]),
        keys or "not needed",
        "; ".join(where),
    )


def _check_row(role: str, one: dict[str, Any]) -> tuple[object, ...]:
    tokens = f"{one['tokens_in']} + {one['tokens_out']}" if one["ok"] else ""
    said = "ok" if one["ok"] else one["error"]
    if one["failed"]:
        said += "; failed before: " + ", ".join(f"{it['model']} ({it['error_type']})" for it in one["failed"])
    return role, one["asked"], one["model"] or "", one["duration_ms"], tokens, said
