"""`lerim init` and `lerim project`: the state folder, and the folders whose sessions become memories."""

from __future__ import annotations

from pathlib import Path

import click

from lerim_jobs import config, ids
from lerim_jobs.api.state import State, find_project
from lerim_jobs.cli.output import emit, json_option, note, print_line, table
from lerim_jobs.cli.state import open_state
from lerim_jobs.errors import BadInput, ConfigError
from lerim_jobs.log.events import ProjectAdded, ProjectMoved, ProjectRemoved
from lerim_jobs.log.projection import fold_all
from lerim_jobs.log.store import Store
from lerim_jobs.machine.identity import host_name
from lerim_jobs.memory.files.moved import is_gone, moved_here
from lerim_jobs.paths import memory_dir
from lerim_jobs.projects import PROJECTS, Project, active_projects, project_stream
from lerim_jobs.providers import is_demo

__all__ = ["init", "project"]

_CONFIG = """\
# Settings of lerim-jobs. A project's own .lerim/config.toml may only narrow them; the environment wins over both.
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
        emit(
            {
                "home": str(state.home.root),
                "created_config": created,
                "agents": folders,
                "sessions": sessions,
                "demo_only": is_demo(state.settings, state.env),
            }
        )
        return
    print_line(f"State folder: {state.home.root}")
    print_line(f"Settings:     {state.home.config}{' (new)' if created else ''}")
    for name, count in sessions.items():
        print_line(f"{name}: {count} session files in {', '.join(folders[name])}")
    if is_demo(state.settings, state.env):
        print_line(
            "Model:        offline, demo only: it finds what a few rules find. A key belongs into the .env beside them."
        )
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
    """Register the folder PATH. Its memories will lie in PATH/.lerim/memory.

    A folder with the memories of a project that is gone is that project, moved: they go along.
    """
    folder = _folder(path)
    state = open_state()
    here = [one for one in active_projects(state.store).values() if one.host == host_name()]
    known = next((one for one in here if one.path == str(folder)), None)
    if known is None and (moved := moved_here(state.store, folder, here)):
        _move(state, moved, folder, name, as_json=as_json)
        return
    already = known is not None and name in (None, known.name)
    earlier = known or _removed(state.store, folder)
    project_id = earlier.project_id if earlier else _new_id(state.store, folder)
    called = name or (earlier.name if earlier else _free_name(folder, _names(state.store)))
    if not already:
        event = ProjectAdded(project_id, called, str(folder), host_name())
        state.store.append(project_stream(project_id), [event], expected=earlier.version if earlier else 0)
    about = {"project_id": project_id, "name": called, "path": str(folder), "already": already, "moved_from": None}
    if as_json:
        emit(about)
    else:
        print_line(f"Project {called!r} {'was registered before' if already else 'is registered'}: {folder}")
        print_line(f"Memories: {memory_dir(folder)}")
        _print_asked(state, folder)


@project.command()
@click.argument("name")
@click.argument("path")
@click.option("--name", "new_name", help="How it is called from now on. [default: the folder's name if it was before]")
@json_option
def move(name: str, path: str, new_name: str | None, as_json: bool) -> None:
    """Say that the folder of the project NAME (or its old folder) is PATH now. Its memories and sessions go along.

    Sessions of the old folder are still the project's. Moving it back undoes it.
    """
    folder = _folder(path)
    state = open_state()
    one = find_project(state, name)
    if one.host != host_name():
        raise BadInput(f"project {one.name!r} lies on {one.host}: move it there")
    other = next((two for two in active_projects(state.store).values() if two.path == str(folder)), None)
    if other and other.project_id != one.project_id:
        raise BadInput(f"{str(folder)!r} is the project {other.name!r}: `lerim project remove {other.name}` first")
    if other is None and not is_gone(one):
        raise BadInput(f"{one.path!r} is still there: move the folder first, or register the new one as well")
    _move(state, one, folder, new_name, as_json=as_json)


@project.command("list")
@json_option
def list_projects(as_json: bool) -> None:
    """Show the registered folders."""
    projects = list(active_projects(open_state().store).values())
    if as_json:
        for one in projects:
            about = {"project_id": one.project_id, "name": one.name, "path": one.path, "host": one.host}
            emit({**about, "gone": _is_gone_here(one), "places": one.places})
        return
    rows = [
        (one.name, f"{one.path} (gone: `lerim project move`)" if _is_gone_here(one) else one.path, one.project_id)
        for one in projects
    ]
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


def _move(state: State, one: Project, folder: Path, name: str | None, *, as_json: bool) -> None:
    renamed = _free_name(folder, _names(state.store) - {one.name}) if one.name == Path(one.path).name else one.name
    called, before = name or renamed, one.path
    if (called, before) != (one.name, str(folder)):
        event = ProjectMoved(one.project_id, called, str(folder))
        state.store.append(project_stream(one.project_id), [event], expected=one.version)
    if as_json:
        about = {"project_id": one.project_id, "name": called, "path": str(folder), "already": before == str(folder)}
        emit({**about, "moved_from": before})
        return
    print_line(f"Project {one.name!r} was moved: from {before} to {folder}")
    if called != one.name:
        print_line(f"It is called {called!r} from now on.")
    print_line(f"Memories: {memory_dir(folder)}")


def _print_asked(state: State, folder: Path) -> None:
    """What the repository's own settings file asks for: it came with the repository."""
    try:
        _, said = config.load_with_said(state.env, project=folder)
    except ConfigError as exc:
        note(f"Its own settings file is wrong, so it is left alone until that is changed: {exc}")
        return
    for key, value in said.items():
        print_line(f"Its own settings file says {key} = {value}")


def _folder(path: str) -> Path:
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        raise BadInput(f"{str(folder)!r} is not a folder")
    return folder


def _removed(store: Store, folder: Path) -> Project | None:
    """A project of this folder that was removed: it is the same one again."""
    known = fold_all(store, PROJECTS).values()
    return next((one for one in known if one.removed and (one.path, one.host) == (str(folder), host_name())), None)


def _new_id(store: Store, folder: Path) -> str:
    """Derived from the folder; the id of one that lay here before it was moved is taken."""
    known, number = fold_all(store, PROJECTS), 0
    while (found := ids.derived("project", host_name(), str(folder), *([str(number)] if number else []))) in known:
        number += 1
    return found


def _names(store: Store) -> set[str]:
    return {one.name for one in active_projects(store).values()}


def _is_gone_here(one: Project) -> bool:
    return one.host == host_name() and is_gone(one)


def _free_name(folder: Path, taken: set[str]) -> str:
    """The folder's name, with its parent's in front where two are called alike."""
    name = folder.name or "root"
    return f"{folder.parent.name}-{name}" if name in taken else name
