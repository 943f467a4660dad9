"""`lerim memory export` and `import`: memories as JSON lines or markdown, in bulk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from lerim_jobs.api.state import State, find_project, project_or_here
from lerim_jobs.cli.memory.by_hand import bring_files, by_whom
from lerim_jobs.cli.output import emit, json_option, note, print_line
from lerim_jobs.cli.state import open_state
from lerim_jobs.errors import BadInput
from lerim_jobs.memory.memory import Memory

__all__ = ["COMMANDS"]


@click.command("export")
@click.option("--project", "name", help="Only this project. [default: all]")
@click.option("--format", "form", type=click.Choice(["jsonl", "md"]), default="jsonl", show_default=True, help="How.")
@click.option(
    "--output", default="-", show_default=True, help="A new file (jsonl) or folder (md); `-`: standard output."
)
@click.option("--all", "everything", is_flag=True, help="Archived and merged ones too.")
@json_option
def export_memories(name: str | None, form: str, output: str, everything: bool, as_json: bool) -> None:
    """Write memories out. JSON lines carry everything, quotes included; nothing that exists is overwritten."""
    state = open_state()
    memories, projects = _chosen(state, name, everything)
    if output == "-":
        _print(memories, projects, form)
        return
    target = Path(output).expanduser()
    if target.exists() and (target.is_file() or form == "jsonl" or any(target.iterdir())):
        raise BadInput(f"{str(target)!r} exists: name a new file or folder")
    if not target.parent.is_dir():
        raise BadInput(f"there is no folder {str(target.parent)!r}")
    _write(state, memories, projects, form, target)
    about = {"exported": len(memories), "format": form, "output": str(target)}
    if as_json:
        emit(about)
    else:
        print_line(f"{len(memories)} memories written to {target}")


@click.command("import")
@click.argument("source", metavar="PATH", type=click.Path(path_type=Path))
@click.option("--project", "name", help="The project they go to. [default: that of the current folder]")
@click.option("--dry-run", is_flag=True, help="Only count.")
@json_option
def import_memories(source: Path, name: str | None, dry_run: bool, as_json: bool) -> None:
    """Add the memories of PATH: a JSON-lines file as `export` writes it, or a folder of markdown. Twice is as good as once."""
    from lerim_jobs.memory.transfer import import_all, read_source

    state = open_state()
    project = project_or_here(state, name)
    found = read_source(source.expanduser())
    done = import_all(state.store, project.project_id, found, dry_run=dry_run, meta=by_whom())
    if done.added and not dry_run:
        bring_files(state, project.project_id)
    if as_json:
        emit({**msgspec.to_builtins(done), "dry_run": dry_run})
        return
    for one in done.problems:
        note(f"{one['path']}: {one['problem']}")
    would = " would be" if dry_run else ""
    print_line(
        f"{done.added}{would} added, {done.known} known already, {done.different} different here, "
        f"{done.unreadable} unreadable"
    )


COMMANDS = (export_memories, import_memories)


def _chosen(state: State, name: str | None, everything: bool) -> tuple[list[Memory], dict[str, str]]:
    from lerim_jobs.log.projection import fold_all
    from lerim_jobs.memory.stored import all_memories
    from lerim_jobs.projects import PROJECTS

    project_id = find_project(state, name).project_id if name else None
    wanted = {"active", "archived", "merged"} if everything else {"active"}
    found = [one for one in all_memories(state.store, project_id=project_id).values() if one.status in wanted]
    names = {key: project.name for key, project in fold_all(state.store, PROJECTS).items()}
    return sorted(found, key=lambda one: (one.begun_ms, one.memory_id)), names


def _print(memories: list[Memory], projects: dict[str, str], form: str) -> None:
    from lerim_jobs.memory.files.markdown import render
    from lerim_jobs.memory.transfer import as_line

    for one in memories:
        data: Any = as_line(one, projects.get(one.project_id)) if form == "jsonl" else render(one)
        click.echo(data, nl=form == "jsonl")


def _write(state: State, memories: list[Memory], projects: dict[str, str], form: str, target: Path) -> None:
    from lerim_jobs.memory.files.states import files_of
    from lerim_jobs.memory.transfer import as_line, write_folder

    try:
        if form == "jsonl":
            lines = [as_line(one, projects.get(one.project_id)) + b"\n" for one in memories]
            target.write_bytes(b"".join(lines))
            return
        paths = {key: file.path for key, file in files_of(state.store, [one.memory_id for one in memories]).items()}
        write_folder(target, memories, paths)
    except OSError as exc:
        raise BadInput(f"cannot write {str(target)!r}: {exc.strerror}") from exc
