"""`make docs`: the reference of the command line, written from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from lerim_jobs import errors
from lerim_jobs.cli.main import cli

__all__ = ["PAGE", "rendered"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "cli.md"
_HEAD = """\
# Commands

<!-- Made by `make docs` from the commands themselves; do not edit. -->

Every command takes `--json` ([fields](json.md)) and `--help`. Results go to standard output, everything else to standard error.
`lerim --debug COMMAND` shows tracebacks.
"""
_EXITS = {
    errors.EXIT_DONE: "done",
    errors.EXIT_FAILED: "failed",
    errors.EXIT_USAGE: "wrong usage, or settings that need mending",
    errors.EXIT_PARTIAL: "done in part",
    errors.EXIT_UNREACHABLE: "Redis or the log cannot be reached",
    errors.EXIT_TIMEOUT: "stopped waiting (`--wait-timeout-s`); the job goes on",
    errors.EXIT_PARKED: "parked over a cap; it goes on by itself",
    errors.EXIT_INTERRUPTED: "interrupted",
}


def rendered() -> str:
    """The whole page."""
    parts = [_HEAD, _contents(), "## Exit codes\n", _table(("Code", "Meaning"), _EXITS.items())]
    for name, command in _commands(cli):
        parts += _section(name, command)
    return "\n".join(parts)


def _commands(group: click.Group, above: str = "lerim") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, groups before what is in them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{above} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{above} {name}")


def _contents() -> str:
    """One line for each command that does something."""
    rows = [
        (f"[`{name}`](#{name.replace(' ', '-')})", _first(command))
        for name, command in _commands(cli)
        if not isinstance(command, click.Group) or command.invoke_without_command
    ]
    return _table(("Command", "What it does"), rows)


def _section(name: str, command: click.Command) -> Iterator[str]:
    yield f"{'#' * (len(name.split()))} {name}\n"
    context = click.Context(command, info_name=name, help_option_names=["-h", "--help"])
    yield f"`{' '.join([name, *command.collect_usage_pieces(context)])}`\n"
    yield f"{_paragraphs(command)}\n"
    options = [param for param in command.params if isinstance(param, click.Option) and param.name != "as_json"]
    said = [record for one in options if (record := one.get_help_record(context))]
    if said:
        yield _table(
            ("Option", "Meaning"),
            ((f"`{flags.replace(' RANGE', '')}`", " ".join(text.split())) for flags, text in said),
        )


def _paragraphs(command: click.Command) -> str:
    text = (command.help or "").strip()
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _first(command: click.Command) -> str:
    return _paragraphs(command).partition("\n")[0].partition(". ")[0].rstrip(".:")


def _table(headings: tuple[str, str], rows: object) -> str:
    lines = [headings, ("---", "---"), *rows]  # type: ignore[misc]  # pairs of anything that can be shown
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(rendered(), "utf-8")
