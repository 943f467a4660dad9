"""`lerim init` and `lerim project`: the state folder, and the folders whose sessions become memories."""

from __future__ import annotations

from pathlib import Path

import click

from lerim_jobs import ids
from lerim_jobs.api.state import find_project
from lerim_jobs.cli.output import emit, json_option, note, print_line, table
from lerim_jobs.cli.state import open_state
from lerim_jobs.errors import BadInput
from lerim_jobs.log.events import ProjectAdded, ProjectRemoved
from lerim_jobs.log.projection import find
from lerim_jobs.machine.identity import host_name
from lerim_jobs.paths import memory_dir
from lerim_jobs.projects import PROJECTS, active_projects, project_stream

__all__ = ["init", "project"]

_CONFIG = """\
# Settings of lerim-jobs. The environment and a project's own .lerim/config.toml win over this file.
# Keys belong into the environment or into the file .env beside this one (OPENAI_API_KEY=...), never in here.

# [roles.lead]                 # also: explorer, extract, summarize
# provider = "openrouter"      # openai, anthropic, openrouter, ollama, zai, minimax, offline, or any name with api_base
# model = "x-ai/grok-4.1-fast"
# fallback_models = ["openai:gpt-5-mini"]

# [tracing]
# enabled = false              # LERIM_TRACING=1 switches it on for one command
# include_content = true
# include_httpx = false

# [schedule]
# sync_interval_minutes = 10
# maintain_interval_minutes = 60

# [agents]                     # default: every known agent's usual folder
# claude_code = "~/.claude"
"""


@click.command()
@click.option("--yes", is_flag=True, help="Ask nothing; there is nothing to ask yet.")
@json_option
def init(yes: bool, as_json: bool) -> None:
    """Make the state folder with a commented settings file, and show what was found."""
    from lerim_jobs.sessions import discovery

    state = open_state()
    created = not state.home.config.exists()
    if created:
        state.home.config.touch(mode=0o600)
        state.home.config.write_text(_CONFIG, "utf-8")
    folders = {name: [str(path) for path in paths] for name, paths in _roots(state.env, state.settings.agents).items()}
    found, _ = discovery.scan({name: [Path(path) for path in paths] for name, paths in folders.items()})
    sessions = {name: sum(one.agent == name for one in found) for name in folders}
    if as_json:
        emit({"home": str(state.home.root), "created_config": created, "agents": folders, "sessions": sessions})
        return
    print_line(f"State folder: {state.home.root}")
    print_line(f"Settings:     {state.home.config}{' (new)' if created else ''}")
    for name, count in sessions.items():
        print_line(f"{name}: {count} session files in {', '.join(folders[name])}")
    if not folders:
        print_line(
            "No coding agent's sessions were found in their usual folders; [agents] in the settings names others."
        )
    if not active_projects(state.store):
        print_line("Next: `lerim project add PATH` for each repository, then `lerim sync`.")


def _roots(env: dict[str, str], agents: object) -> dict[str, list[Path]]:
    from lerim_jobs.sessions import discovery

    return discovery.roots(env, agents)  # type: ignore[arg-type]  # the settings' own mapping


@click.group()
def project() -> None:
    """Register the folders whose sessions become memories."""


@project.command()
@click.argument("path")
@click.option("--name", help="How it is called. [default: the folder's name]")
@json_option
def add(path: str, name: str | None, as_json: bool) -> None:
    """Register the folder PATH. Its memories will lie in PATH/.lerim/memory."""
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        raise BadInput(f"{str(folder)!r} is not a folder")
    state = open_state()
    project_id = ids.derived("project", host_name(), str(folder))
    known = find(state.store, PROJECTS, project_id)
    already = known is not None and not known.removed and name in (None, known.name)
    called = name or (
        known.name if known else _free_name(folder, {one.name for one in active_projects(state.store).values()})
    )
    if not already:
        event = ProjectAdded(project_id, called, str(folder), host_name())
        state.store.append(project_stream(project_id), [event], expected=known.version if known else 0)
    about = {"project_id": project_id, "name": called, "path": str(folder), "already": already}
    if as_json:
        emit(about)
    else:
        print_line(f"Project {called!r} {'was registered before' if already else 'is registered'}: {folder}")
        print_line(f"Memories: {memory_dir(folder)}")


@project.command("list")
@json_option
def list_projects(as_json: bool) -> None:
    """Show the registered folders."""
    projects = list(active_projects(open_state().store).values())
    if as_json:
        for one in projects:
            emit({"project_id": one.project_id, "name": one.name, "path": one.path, "host": one.host})
        return
    rows = [(one.name, one.path, one.project_id) for one in projects]
    table(("name", "path", "id"), rows, empty="No project is registered: `lerim project add PATH`.")


@project.command()
@click.argument("name")
@json_option
def remove(name: str, as_json: bool) -> None:
    """Stop syncing the project NAME. Its memories stay where they are."""
    state = open_state()
    one = find_project(state, name)
    state.store.append(project_stream(one.project_id), [ProjectRemoved(one.project_id)], expected=one.version)
    if as_json:
        emit({"project_id": one.project_id, "name": one.name, "removed": True})
    else:
        note(f"Project {one.name!r} is no longer synced. Its memories stay in {memory_dir(Path(one.path))}.")


def _free_name(folder: Path, taken: set[str]) -> str:
    """The folder's name, with its parent's in front where two are called alike."""
    name = folder.name or "root"
    return f"{folder.parent.name}-{name}" if name in taken else name
