"""`lerim memory add`, `edit`, `archive`, `restore`: memories changed by people; their files follow at once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click
import msgspec

from lerim_jobs import __version__
from lerim_jobs.api.state import State, find_memory, project_or_here
from lerim_jobs.cli.output import emit, json_option, note, print_line
from lerim_jobs.cli.state import open_state
from lerim_jobs.errors import BadInput
from lerim_jobs.log.events import MemoryKind
from lerim_jobs.machine.identity import host_name
from lerim_jobs.memory.memory import Memory

if TYPE_CHECKING:
    from lerim_jobs.memory.files.merging import Content

__all__ = ["COMMANDS", "bring_files", "by_whom"]

F = TypeVar("F", bound=Callable[..., Any])
_MAX_STDIN = 1_048_576


def _content_options(command: F) -> F:
    for option in (
        click.option("--confidence", type=click.FloatRange(0, 1), help="From 0 to 1."),
        click.option("--tag", "tags", multiple=True, help="May be given several times."),
        click.option("--kind", type=click.Choice(get_args(MemoryKind)), help="What sort of memory it is."),
        click.option("--body", help="The text; `-` reads it from standard input."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("title")
@_content_options
@click.option("--project", "name", help="The project. [default: that of the current folder]")
@json_option
def add(
    title: str,
    body: str | None,
    kind: Any,
    tags: tuple[str, ...],
    confidence: float | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Keep a memory in your own words, with the title TITLE."""
    from lerim_jobs.memory import by_hand
    from lerim_jobs.memory.files.merging import Content

    state = open_state()
    project = project_or_here(state, name)
    given = 1.0 if confidence is None else confidence
    content = Content(title, _text(body) or "", given, list(tags), kind or "insight")
    memory, is_new = by_hand.add(state.store, project.project_id, content, meta=by_whom())
    _done(state, memory, "added" if is_new else "is known already", as_json, added=is_new)


@click.command()
@click.argument("memory_id", metavar="ID")
@click.option("--title", help="The new title.")
@_content_options
@json_option
def edit(
    memory_id: str,
    title: str | None,
    body: str | None,
    kind: Any,
    tags: tuple[str, ...],
    confidence: float | None,
    as_json: bool,
) -> None:
    """Change what the memory ID says: by options, or without any in your editor ($EDITOR)."""
    from lerim_jobs.memory import by_hand
    from lerim_jobs.memory.files.merging import content_of

    state = open_state()
    base = find_memory(state, memory_id)
    given = {"title": title, "body": _text(body), "kind": kind, "tags": list(tags) or None, "confidence": confidence}
    changes = {key: value for key, value in given.items() if value is not None}
    content = msgspec.structs.replace(content_of(base), **changes) if changes else _in_editor(base)
    memory = by_hand.edit(state.store, base, content, meta=by_whom())
    _done(state, memory, "is unchanged" if memory.version == base.version else "changed", as_json)


@click.command()
@click.argument("memory_id", metavar="ID")
@click.option("--reason", default="archived by hand", help="Why; it is kept with the memory.")
@json_option
def archive(memory_id: str, reason: str, as_json: bool) -> None:
    """Put the memory ID away: it is kept, but no longer searched or listed."""
    from lerim_jobs.memory import by_hand

    state = open_state()
    found = find_memory(state, memory_id).memory_id
    memory = by_hand.archive(state.store, found, reason, meta=by_whom())
    _done(state, memory, f"is {memory.status}", as_json)


@click.command()
@click.argument("memory_id", metavar="ID")
@click.option("--reason", default="restored by hand", help="Why; it is kept with the memory.")
@json_option
def restore(memory_id: str, reason: str, as_json: bool) -> None:
    """Take the memory ID back out of the archive.

    Where only another branch of git has its file, it gets one here.
    """
    from lerim_jobs.memory import by_hand

    state = open_state()
    found = find_memory(state, memory_id).memory_id
    _done(state, by_hand.restore(state.store, found, reason, meta=by_whom()), "is active", as_json)


COMMANDS = (add, edit, archive, restore)


def by_whom() -> dict[str, Any]:
    """What the log keeps about a change that no job made."""
    return {"actor": "cli", "host": host_name(), "code": __version__}


def bring_files(state: State, project_id: str) -> list[dict[str, str]]:
    """Bring the project's files up to date; what a person should look at is told and returned."""
    from lerim_jobs.log.projection import find
    from lerim_jobs.memory.files.publishing import publish_now
    from lerim_jobs.projects import PROJECTS

    project = find(state.store, PROJECTS, project_id)
    if project is None or project.removed or project.host != host_name():
        where = "is not registered any more" if project is None or project.removed else f"lies on {project.host}"
        note(f"The project {where}: its files were not touched.")
        return []
    try:
        problems: list[dict[str, str]] = publish_now(state.store, project_id, meta=by_whom())["problems"]
    except BadInput as exc:
        note(f"The files were not touched: {exc}")
        return []
    for one in problems:
        note(f"{one['path']}: {one['problem']}")
    return problems


def _done(state: State, memory: Memory, what: str, as_json: bool, **more: Any) -> None:
    from lerim_jobs.api.memories import as_shown
    from lerim_jobs.memory.stored import load_memories

    problems = bring_files(state, memory.project_id)
    (about,) = as_shown(state, load_memories(state.store, [memory.memory_id]))
    if as_json:
        emit({**msgspec.structs.asdict(about), **more, "problems": problems})
        return
    print_line(f"{about.memory_id} {what}: {about.title}")
    if about.path:
        print_line(about.path)


def _text(given: str | None) -> str | None:
    if given != "-":
        return given
    if sys.stdin.isatty():
        note("The text, then Ctrl-D:")
    text = sys.stdin.buffer.read(_MAX_STDIN + 1)
    if len(text) > _MAX_STDIN:
        raise BadInput("standard input is longer than 1 MiB")
    return text.decode("utf-8", "replace")


def _in_editor(base: Memory) -> Content:
    """What the person made of the memory's file in an editor; nothing is published from half-written text."""
    from lerim_jobs.memory.files.markdown import BadFile, parse, render
    from lerim_jobs.memory.files.merging import content_of, with_theirs

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput("there is no terminal for an editor: give --title, --body, --kind, --tag or --confidence")
    text = render(base).decode("utf-8")
    changed = click.edit(text, extension=".md")
    if changed is None:
        return content_of(base)
    found = parse(changed.encode("utf-8", "replace"))
    if isinstance(found, BadFile):
        raise BadInput(f"line {found.line}: {found.problem}; nothing was changed")
    return with_theirs(base, found)
