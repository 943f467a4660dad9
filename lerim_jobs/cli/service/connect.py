"""`lerim connect`: which coding agents' sessions are read, and from where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lerim_jobs.api.state import State
from lerim_jobs.cli.output import emit, json_option, note, print_line, table
from lerim_jobs.cli.state import open_state
from lerim_jobs.config import Agent
from lerim_jobs.errors import BadInput

__all__ = ["connect"]


@click.command()
@click.argument("agent", required=False)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path(path_type=Path))
@click.option("--off", is_flag=True, help="Do not read this agent's sessions.")
@json_option
def connect(agent: str | None, paths: tuple[Path, ...], off: bool, as_json: bool) -> None:
    """Show which agents' sessions are read; with AGENT read them, from each PATH instead of the usual folders.

    Without an [agents] table in the settings every known agent is read. The first AGENT that is connected writes the table:
    those that are read now stay in it.
    """
    from lerim_jobs.sessions.agents import AGENTS

    state = open_state()
    if agent is None:
        _show(state, as_json)
        return
    if agent not in AGENTS:
        raise BadInput(f"there is no agent {agent!r}; there are {', '.join(AGENTS)}")
    folders = [path.expanduser().absolute() for path in paths]
    for folder in folders:
        if not folder.is_dir():
            raise BadInput(f"{str(folder)!r} is not a folder")
    _write(state, agent, [str(folder) for folder in folders], enabled=not off)
    state = open_state()
    note(f"Written to {state.home.config}. Running workers read it after `lerim down && lerim up`.")
    _show(state, as_json)


def _write(state: State, agent: str, folders: list[str], *, enabled: bool) -> None:
    from lerim_jobs.care.settings_file import set_agent
    from lerim_jobs.sessions import discovery

    old = state.settings.agents
    if not old:
        # An [agents] table leaves out what it does not name, so what is read now must be named in it.
        for name in discovery.roots(state.env, old):
            if name != agent:
                set_agent(state.home.config, name, [], enabled=True)
    elif not folders and agent in old:
        folders = discovery.given_folders(old[agent])
    set_agent(state.home.config, agent, folders, enabled=enabled)


def _show(state: State, as_json: bool) -> None:
    from lerim_jobs.sessions import discovery
    from lerim_jobs.sessions.agents import AGENTS

    folders = discovery.roots(state.env, state.settings.agents)
    found, _ = discovery.scan(folders)
    rows: list[dict[str, Any]] = []
    for name in AGENTS:
        given = state.settings.agents.get(name)
        off = bool(state.settings.agents) and (given is None or (isinstance(given, Agent) and not given.enabled))
        status = "off" if off else "read" if name in folders else "not found"
        paths = [str(path) for path in folders.get(name, [])]
        rows.append(
            {"agent": name, "status": status, "paths": paths, "sessions": sum(one.agent == name for one in found)}
        )
    if as_json:
        for row in rows:
            emit(row)
        return
    headings = ("agent", "status", "session files", "folders")
    table(headings, [(row["agent"], row["status"], row["sessions"], ", ".join(row["paths"])) for row in rows], empty="")
    if not folders:
        print_line("Name a folder: `lerim connect AGENT PATH`.")
