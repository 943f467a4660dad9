"""Finding the files of git above a folder. A repository is untrusted: files are small, plain and read without waiting."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["git_folder", "read_end", "read_line"]

_MOST_UP = 64
_MOST_BYTES = 4096


def git_folder(folder: Path) -> Path | None:
    """The `.git` folder of the repository, or of the linked worktree, that a folder lies in; None outside of git."""
    for above in [folder, *folder.parents][:_MOST_UP]:
        git = above / ".git"
        if os.path.isdir(git):
            return git
        if (line := read_line(git)) and line.startswith("gitdir:"):
            return Path(os.path.normpath(above / line.removeprefix("gitdir:").strip()))
    return None


def read_line(path: Path) -> str:
    """The first line of a small file; empty where there is none, and of one that is not small."""
    return read_end(path, _MOST_BYTES).partition(b"\n")[0].decode("utf-8", "replace").strip()


def read_end(path: Path, most_bytes: int) -> bytes:
    """The last bytes of a plain file; empty where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    with os.fdopen(descriptor, "rb") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            return b""
        file.seek(max(0, about.st_size - most_bytes))
        return file.read(most_bytes)
