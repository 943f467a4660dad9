"""Finding the files of git above a folder. A repository is untrusted: files are small, plain and read without waiting."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

__all__ = ["GitFolder", "git_folder", "open_plain", "read_end", "read_line", "read_whole"]

_MOST_UP = 64
_MOST_BYTES = 4096


class GitFolder(NamedTuple):
    """Where git keeps what it knows of a folder: `root` has the files, `own` is the `.git` folder of the repository or of the
    linked worktree, `common` the repository's, one for all of its worktrees.
    """

    root: Path
    own: Path
    common: Path


def git_folder(folder: Path) -> GitFolder | None:
    """Those of the innermost repository or linked worktree that a folder lies in, also one that is gone; None outside of git."""
    real = Path(os.path.realpath(folder))
    for above in [real, *real.parents][:_MOST_UP]:
        git = above / ".git"
        if os.path.isdir(git):
            return _with_common(above, git)
        if (line := read_line(git)).startswith("gitdir:"):
            return _with_common(above, Path(os.path.normpath(above / line.removeprefix("gitdir:").strip())))
    return None


def read_line(path: Path) -> str:
    """The first line of a small file; empty where there is none, and of one that is not small."""
    return read_whole(path, _MOST_BYTES).partition(b"\n")[0].decode("utf-8", "replace").strip()


def read_whole(path: Path, most_bytes: int) -> bytes:
    """The bytes of a plain file; empty where there is none, and of a larger one."""
    data = read_end(path, most_bytes + 1)
    return data if len(data) <= most_bytes else b""


def read_end(path: Path, most_bytes: int) -> bytes:
    """The last bytes of a plain file; empty where there is none."""
    try:
        descriptor = open_plain(path)
        with os.fdopen(descriptor, "rb") as file:
            file.seek(max(0, os.fstat(descriptor).st_size - most_bytes))
            return file.read(most_bytes)
    except (OSError, ValueError):
        return b""


def open_plain(path: Path) -> int:
    """A descriptor for reading a plain file, which is no link to another. Raises OSError, ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a plain file")
    return descriptor


def _with_common(root: Path, own: Path) -> GitFolder:
    named = read_line(own / "commondir")
    return GitFolder(root, own, Path(os.path.normpath(own / named)) if named else own)
