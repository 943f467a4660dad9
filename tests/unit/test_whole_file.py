"""Files that are replaced whole, and what a killed writer leaves beside them."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from lerim_jobs.machine import whole_file
from lerim_jobs.machine.identity import me
from tests.half_written import half_written


def test_a_file_is_replaced_whole_with_the_mode_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("a longer text than the next")
    seen: list[str] = []
    whole_file.put(path, b"new", mode=0o640, fsync=lambda _: seen.append(path.read_text()))
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)
    assert seen == ["a longer text than the next"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_disk_that_is_full_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.md"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        whole_file.put(path, b"new", fsync=full)
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])


def test_what_a_killed_writer_left_goes_at_once_and_what_lives_stays(tmp_path: Path) -> None:
    killed = half_written(tmp_path / "below" / "a.md")
    host, pid, start, nonce = me().split("/")
    reused = _beside(tmp_path, f"{host},{pid},1,{nonce}")
    mine = _beside(tmp_path, f"{host},{pid},{start},{nonce}")
    elsewhere, of_old = _beside(tmp_path, f"other.1234.5,{pid},{start},{nonce}"), _beside(tmp_path, "2059-ab12cd34")
    other = tmp_path / "draft.tmp"
    other.touch()
    whole_file.sweep(tmp_path)
    assert [path.exists() for path in (killed, reused, mine, elsewhere, of_old, other)] == [False, False, *[True] * 4]
    for path in (mine, elsewhere, of_old, other):
        os.utime(path, (time.time() - 90,) * 2)
    whole_file.sweep(tmp_path)
    assert [path.exists() for path in (mine, elsewhere, of_old, other)] == [True, False, False, True]


def _beside(folder: Path, writer: str) -> Path:
    path = folder / f".lerim-{writer}.tmp"
    path.touch()
    return path
