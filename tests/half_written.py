"""What a writer leaves that is killed with a file half-way."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

_WRITER = """
import os, signal, sys
from pathlib import Path
from lerim_jobs.machine import whole_file

whole_file.put(Path(sys.argv[1]), b"half", fsync=lambda descriptor: os.kill(os.getpid(), signal.SIGKILL))
"""


def half_written(path: Path) -> Path:
    """The file beside its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = set(path.parent.iterdir())
    assert subprocess.run([sys.executable, "-c", _WRITER, str(path)], timeout=30).returncode == -signal.SIGKILL
    (left,) = set(path.parent.iterdir()) - before
    return left
