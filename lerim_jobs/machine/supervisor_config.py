"""supervisord's settings file. It knows no paths of the user and no keys: these come by folder and by environment."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence

from lerim_jobs.machine.processes import WATCH_PARENT, WATCHED_PID

__all__ = ["render"]

# supervisord runs in the state folder: relative paths need no quoting.
_HEAD = """\
[supervisord]
logfile=logs/supervisord.log
logfile_maxbytes=5MB
logfile_backups=2
pidfile=run/supervisord.pid
childlogdir=logs
umask=077
{user}"""
# For supervisorctl and a quicker start; signals do all that must be done, so a path too long for a socket leaves it out.
_CONTROL = """
[unix_http_server]
file=run/supervisord.sock
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://run/supervisord.sock
"""
# Retries wait longer and longer, so a service that is away for hours is met again, and nothing spins.
_PROGRAM = """
[program:{name}]
command={command}
numprocs={count}
process_name=%(program_name)s-%(process_num)d
autorestart=true
startretries=100000
stopwaitsecs=15
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile=logs/%(program_name)s-%(process_num)d.log
stdout_logfile_maxbytes=5MB
stdout_logfile_backups=2
"""
# The shell's parent is supervisord: from it the workers learn whose end is theirs too.
_TELL_PARENT = f'{WATCH_PARENT}=1 {WATCHED_PID}=$PPID exec "$@"'


def render(programs: Mapping[str, Sequence[str]], *, workers: int, control: bool) -> str:
    """The file's text; `workers` copies of the program of that name, one of every other. `control`: with a socket."""
    parts = [_HEAD.format(user="user=root\n" if os.getuid() == 0 else ""), _CONTROL if control else ""]
    for name, command in programs.items():
        line = " ".join(_quoted(part) for part in ("/bin/sh", "-c", _TELL_PARENT, "sh", *command))
        parts.append(_PROGRAM.format(name=name, command=line, count=workers if name == "workers" else 1))
    return "".join(parts)


def _quoted(part: str) -> str:
    """For supervisord, which expands `%`, and takes ` ;` and ` #` for comments even inside quotes."""
    text = shlex.quote(part).replace("%", "%%")
    return text.replace(" ;", " '';").replace(" #", " ''#")
