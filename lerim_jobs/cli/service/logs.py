"""`lerim logs`: what workers, scheduler and the embedded Redis wrote."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import click

from lerim_jobs.cli.output import emit, json_option, note, print_line
from lerim_jobs.cli.state import open_state

__all__ = ["logs"]

_TAIL_BYTES = 1_000_000
_POLL_S = 0.3


@click.command()
@click.argument("name", required=False)
@click.option(
    "-n", "--lines", "count", default=50, show_default=True, type=click.IntRange(0), help="Lines of each file."
)
@click.option("-f", "--follow", is_flag=True, help="Go on showing what is added, until interrupted.")
@json_option
def logs(name: str | None, count: int, follow: bool, as_json: bool) -> None:
    """Show the end of the log files in the state folder; NAME narrows, such as `worker` or `scheduler`."""
    folder = open_state().home.logs
    wanted = [path for path in sorted(folder.glob("*.log")) if not name or name in path.name]
    if not wanted:
        note(f"There are no such logs in {folder}." if name else f"There are no logs in {folder} yet.")
    ends: dict[Path, int] = {}
    for path in wanted:
        ends[path] = path.stat().st_size
        for line in _last(path, ends[path], count):
            _show(path, line, as_json, alone=len(wanted) == 1)
    while follow:
        time.sleep(_POLL_S)
        for path in sorted(folder.glob("*.log")):
            if not name or name in path.name:
                for line in _added(path, ends):
                    _show(path, line, as_json, alone=False)


def _last(path: Path, end: int, count: int) -> list[str]:
    with path.open("rb") as file:
        file.seek(max(0, end - _TAIL_BYTES))
        text = file.read(_TAIL_BYTES).decode("utf-8", "replace")
    return text.splitlines()[-count:] if count else []


def _added(path: Path, ends: dict[Path, int]) -> Iterator[str]:
    """Whole lines behind where the file ended; one that became shorter was rotated and begins anew."""
    size = path.stat().st_size
    start = ends.get(path, 0) if size >= ends.get(path, 0) else 0
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(size - start)
    whole = data[: data.rfind(b"\n") + 1]
    ends[path] = start + len(whole)
    yield from whole.decode("utf-8", "replace").splitlines()


def _show(path: Path, line: str, as_json: bool, *, alone: bool) -> None:
    if as_json:
        emit({"log": path.name, "line": line})
    else:
        print_line(line if alone else f"{path.stem}: {line}")
