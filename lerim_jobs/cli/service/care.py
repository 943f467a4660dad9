"""`lerim backup`, `restore` and `rebuild`: copies of the state, and making anew what is derived from the log."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import msgspec

from lerim_jobs.cli.output import emit, json_option, note, print_line, table
from lerim_jobs.cli.state import open_state

__all__ = ["backup", "rebuild", "restore"]


@click.command()
@click.argument("path", required=False, type=click.Path(path_type=Path))
@json_option
def backup(path: Path | None, as_json: bool) -> None:
    """Copy log, traces and settings to PATH, a new folder or a .tar.gz, while everything goes on.

    [default: backups/ in the state folder] Keys in .env are not copied; memories in your repositories belong to git.
    """
    from lerim_jobs.care.backup import back_up

    state = open_state()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    target = (path or state.home.root / "backups" / f"lerim-{stamp}.tar.gz").expanduser().absolute()
    manifest = back_up(state.home, target)
    if as_json:
        emit({"path": str(target), **msgspec.to_builtins(manifest)})
    else:
        names = ", ".join(manifest.files)
        print_line(f"{target}: {manifest.events} events, {manifest.size_bytes / 1e6:.1f} MB ({names})")


@click.command()
@click.argument("path", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--finish", is_flag=True, help="Complete a restore that was interrupted.")
@click.option("--roll-back", is_flag=True, help="Put back what was there before a restore that was interrupted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def restore(path: Path | None, finish: bool, roll_back: bool, yes: bool, as_json: bool) -> None:
    """Put the backup at PATH in the place of the state, after checking it. What was there is kept aside."""
    from lerim_jobs import config
    from lerim_jobs.care import restore as restoring
    from lerim_jobs.errors import BadInput
    from lerim_jobs.paths import home as home_of

    # Not `open_state`: the log to be replaced may be damaged.
    home = home_of(config.environment())
    if [path is not None, finish, roll_back].count(True) != 1:
        raise BadInput("name the backup, or say --finish or --roll-back, one of them")
    if roll_back:
        restoring.roll_back(home)
        if as_json:
            emit({"home": str(home.root), "rolled_back": True})
        else:
            print_line(f"{home.root}: as it was before the restore")
        return
    if path and not yes:
        if not sys.stdin.isatty():
            raise BadInput("restore replaces the state: say --yes")
        click.confirm(f"Replace the state in {home.root}?", abort=True, err=True)
    done = restoring.restore(home, path.expanduser().absolute()) if path else restoring.finish(home)
    if as_json:
        emit({"home": str(home.root), "kept": str(done.kept), **msgspec.to_builtins(done.manifest)})
        return
    print_line(f"{home.root}: {done.manifest.events} events of {done.manifest.made_at}, checked")
    note(f"What was there before is in {done.kept}. `lerim rebuild` makes the search index anew.")


@click.command()
@click.option("--compact", is_flag=True, help="Also drop what nothing names and write the files without gaps.")
@json_option
def rebuild(compact: bool, as_json: bool) -> None:
    """Make read models, search index and sums of money anew from the log."""
    from lerim_jobs.care.rebuild import compact_all, rebuild_all

    state = open_state()
    begin = time.monotonic()
    freed = compact_all(state.store, state.home) if compact else {}
    done = rebuild_all(state.store, state.home)
    if as_json:
        emit({**msgspec.to_builtins(done), "freed_bytes": freed, "duration_s": round(time.monotonic() - begin, 2)})
        return
    rows = [*done.documents.items(), ("search", done.memories_indexed)]
    table(("made anew", "documents"), rows, empty="")
    print_line(f"From {done.events} events in {time.monotonic() - begin:.1f} s.")
    for name, size in freed.items():
        print_line(f"{name}: {size / 1e6:.1f} MB smaller")
    if done.changed:
        note(f"These were not what the log says, and are now: {', '.join(done.changed)}")
