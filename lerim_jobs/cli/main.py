"""`lerim`: the command table, and how every command ends."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, NoReturn

import click

from lerim_jobs import __version__
from lerim_jobs.errors import EXIT_FAILED, EXIT_INTERRUPTED, JobsError

__all__ = ["cli", "run"]

_COMMANDS = {
    "init": "lerim_jobs.cli.service.projects:init",
    "project": "lerim_jobs.cli.service.projects:project",
    "up": "lerim_jobs.cli.service.service:up",
    "down": "lerim_jobs.cli.service.service:down",
    "status": "lerim_jobs.cli.service.service:status",
    "sync": "lerim_jobs.cli.jobs.work:sync",
    "maintain": "lerim_jobs.cli.jobs.work:maintain",
    "ask": "lerim_jobs.cli.jobs.work:ask",
    "jobs": "lerim_jobs.cli.jobs.group:jobs",
    "models": "lerim_jobs.cli.service.models:models",
    "report": "lerim_jobs.cli.jobs.report:report_command",
    "usage": "lerim_jobs.cli.jobs.usage:usage_command",
    "audit": "lerim_jobs.cli.service.audit:audit",
    "drill": "lerim_jobs.cli.service.drill:drill",
    "memory": "lerim_jobs.cli.memory.group:memory",
    "trace": "lerim_jobs.cli.trace.group:trace",
    "context": "lerim_jobs.cli.memory.context:context",
    "backup": "lerim_jobs.cli.service.care:backup",
    "restore": "lerim_jobs.cli.service.care:restore",
    "rebuild": "lerim_jobs.cli.service.care:rebuild",
    "doctor": "lerim_jobs.cli.service.doctor:doctor",
    "logs": "lerim_jobs.cli.service.logs:logs",
    "connect": "lerim_jobs.cli.service.connect:connect",
    "demo": "lerim_jobs.cli.service.demo:demo",
}


class _Table(click.Group):
    """Loads a command's module when the command is used, so that the others cost nothing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        where = _COMMANDS.get(cmd_name)
        if where is None:
            return None
        module, _, name = where.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_Table, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="lerim")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def cli(debug: bool) -> None:
    """Turn coding-agent sessions into memories, keep them clean, and ask them.

    Start with `lerim init` and `lerim project add PATH`, then `lerim sync`. Try it all without a key: `lerim demo`.
    """


def run() -> NoReturn:
    """Run one command and exit with its code; errors are one line on stderr."""
    arguments = sys.argv[1:]
    debug = "--debug" in arguments
    try:
        sys.exit(_invoke([one for one in arguments if one != "--debug"]))
    except JobsError as exc:
        if debug:
            raise
        _fail(str(exc), exc.exit_code)
    except click.exceptions.Abort:
        _fail("interrupted", EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output went away; say nothing and do not fail again while Python flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except Exception as exc:
        if debug:
            raise
        _fail(f"unexpected {type(exc).__name__}: {exc}. Run it again with --debug for the details.", EXIT_FAILED)


def _invoke(arguments: list[str]) -> int:
    try:
        result: Any = cli.main(arguments, prog_name="lerim", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as exc:
        exc.show()
        return 0
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"lerim: {message}", err=True)
    sys.exit(code)
