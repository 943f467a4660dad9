"""Starting our commands by forking a process that has loaded their libraries already.

A worker spends four seconds of CPU on importing model libraries, which says nothing about this code. The forked process is
as real as one started anew: it has its own pid, session, environment, output and exit status, and can be killed. Tests of
start-up, supervision and honcho start the real command instead.

`python -m tests.zygote SOCKET` is the process that forks; `fork` and `run` ask it.
"""

from __future__ import annotations

import array
import atexit
import ctypes
import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from tests.waiting import until

__all__ = ["Forked", "fork", "mark", "run"]

_PR_SET_NAME = 15


class Forked:
    """A process forked by the zygote, with the interface of Popen that tests use."""

    def __init__(self, module: str, answers: IO[bytes], pid: int) -> None:
        self.args, self.pid, self.returncode = [module], pid, None
        self._ended = threading.Event()
        threading.Thread(target=self._listen, args=(answers,), daemon=True).start()

    returncode: int | None

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _listen(self, answers: IO[bytes]) -> None:
        with answers:
            status = answers.readline()
        self.returncode = int(status or b"-9")
        self._ended.set()


def fork(
    module: str, arguments: Sequence[str], env: Mapping[str, str], *, cwd: Path, out: IO[Any], err: IO[Any]
) -> Forked:
    """Run `python -m module arguments` in a session of its own, without standard input."""
    wanted = {"module": module, "arguments": list(arguments), "env": dict(env), "cwd": str(cwd)}
    files = array.array("i", [out.fileno(), err.fileno()])
    body = json.dumps(wanted).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(_server())
        connection.sendmsg([len(body).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, files)])
        connection.sendall(body)
        answers = connection.makefile("rb")
    return Forked(module, answers, int(answers.readline()))


def run(
    module: str, arguments: Sequence[str], env: Mapping[str, str], *, cwd: Path, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """`fork`, to its end. Raises subprocess.TimeoutExpired."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = fork(module, arguments, env, cwd=cwd, out=out, err=err).wait(timeout_s)
        said = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (out, err)]
    return subprocess.CompletedProcess(arguments, code, *said)


def mark(home: str) -> str:
    """The name that a forked process and its children carry: their environment cannot be read from outside."""
    import hashlib

    return "z" + hashlib.sha256(home.encode()).hexdigest()[:14]


@cache
def _server() -> str:
    """One zygote per test process; it ends with it."""
    folder = tempfile.mkdtemp(prefix="zygote-")
    path = f"{folder}/s"
    process = subprocess.Popen([sys.executable, "-m", "tests.zygote", path], stdin=subprocess.PIPE)

    def end() -> None:
        if process.stdin:
            process.stdin.close()
        process.wait(10)
        Path(path).unlink(missing_ok=True)
        os.rmdir(folder)

    atexit.register(end)
    until(lambda: os.path.exists(path), 60, what="a zygote")
    return path


def _serve(path: str) -> None:
    _preload()
    children: dict[int, socket.socket] = {}
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}.new")
    listener.listen(64)
    os.rename(f"{path}.new", path)
    wake, woken = socket.socketpair()
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    import select

    while True:
        ready = select.select([listener, wake, sys.stdin], [], [])[0]
        if sys.stdin in ready:
            os._exit(0)
        if wake in ready:
            wake.recv(4096)
            _reap(children)
        if listener in ready:
            connection = listener.accept()[0]
            pid = _start(connection, [listener, wake, woken, *children.values()])
            children[pid] = connection
            connection.sendall(f"{pid}\n".encode())


def _reap(children: dict[int, socket.socket]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        with suppress(KeyError, OSError), children.pop(pid) as connection:
            connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _start(connection: socket.socket, others: Sequence[socket.socket]) -> int:
    size = array.array("i", [0, 0]).itemsize * 2
    head, [(_, _, files)], _, _ = connection.recvmsg(8, socket.CMSG_SPACE(size))
    descriptors = array.array("i", files[:size])
    length = int.from_bytes(head, "big")
    body = b""
    while len(body) < length:
        body += connection.recv(length - len(body))
    pid = os.fork()
    if pid == 0:
        for other in (*others, connection):
            other.close()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _become(json.loads(body), descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    return pid


def _become(wanted: dict[str, Any], descriptors: array.array[int]) -> None:
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, descriptor in enumerate(descriptors, 1):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(wanted["env"])
    ctypes.CDLL(None).prctl(_PR_SET_NAME, mark(wanted["env"].get("LERIM_HOME", "")).encode(), 0, 0, 0)
    os.chdir(wanted["cwd"])
    sys.argv = [wanted["module"], *wanted["arguments"]]
    code = 0
    try:
        runpy.run_module(wanted["module"], run_name="__main__", alter_sys=False)
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _preload() -> None:
    """What takes long; never dramatiq, which reads its environment when it is imported."""
    import redis

    import lerim_jobs.cli.jobs.follow
    import lerim_jobs.cli.jobs.work
    from lerim_jobs.kinds import all_stages
    from workers.registry import load_stage

    for name in all_stages():
        load_stage(name)
    assert redis
    assert lerim_jobs.cli.jobs.follow
    assert "dramatiq" not in sys.modules
    assert threading.active_count() == 1, threading.enumerate()
    gc.freeze()


if __name__ == "__main__":
    _serve(sys.argv[1])
