"""Which files a commit has is read as git itself says it, from loose objects and packs, and broken ones are not known."""

from __future__ import annotations

import os
import random
import zlib
from pathlib import Path

import pytest

from lerim_jobs.git.trees import Trees
from tests.git import git, needs_git

pytestmark = needs_git

NOTHING = "0" * 40


def _grown(root: Path, *options: str) -> list[str]:
    """A repository of many commits, each with a few files more, in folders, and long trees that are packed as deltas."""
    git(root, "init", "-q", "-b", "main", *options)
    commits = []
    for number in range(6):
        for place in ("a", "deep/er/folder", "."):
            (root / place).mkdir(parents=True, exist_ok=True)
            for file in range(40):
                (root / place / f"file-{number}-{file}.md").write_text(f"{number} {file}")
        git(root, "add", "-A")
        git(root, "commit", "-qm", f"commit {number}")
        commits.append(git(root, "rev-parse", "HEAD").strip())
    return commits


def _agrees_with_git(root: Path, commits: list[str]) -> None:
    trees = Trees(root / ".git")
    names = set(git(root, "ls-tree", "-r", "--name-only", commits[-1]).splitlines())
    for commit in commits:
        there = set(git(root, "ls-tree", "-r", "--name-only", commit).splitlines())
        found = {name: trees.holds(commit, name) for name in names}
        assert found == {name: name in there for name in names}


@pytest.mark.parametrize("form", ["sha1", "sha256"])
def test_every_file_of_every_commit_is_known_loose_and_packed(tmp_path: Path, form: str) -> None:
    commits = _grown(tmp_path, f"--object-format={form}")
    _agrees_with_git(tmp_path, commits)
    git(tmp_path, "-c", "repack.useDeltaBaseOffset=false", "repack", "-qadf")
    _agrees_with_git(tmp_path, commits)
    git(tmp_path, "gc", "-q", "--aggressive", "--prune=now")
    assert not any(len(one.name) == 2 for one in (tmp_path / ".git" / "objects").iterdir())
    _agrees_with_git(tmp_path, commits)


def test_a_large_offset_of_an_index_is_read(tmp_path: Path) -> None:
    commits = _grown(tmp_path)
    git(tmp_path, "gc", "-q")
    (pack,) = (tmp_path / ".git" / "objects" / "pack").glob("*.pack")
    index = pack.with_suffix(".idx")
    index.unlink()
    git(tmp_path, "index-pack", "--index-version=2,0x40", str(pack))
    _agrees_with_git(tmp_path, commits)


def test_what_is_no_file_or_no_commit(tmp_path: Path) -> None:
    commits = _grown(tmp_path)
    os.symlink("nowhere", tmp_path / "link")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "link")
    trees, last = Trees(tmp_path / ".git"), git(tmp_path, "rev-parse", "HEAD").strip()
    assert trees.holds(NOTHING, "a") is False
    assert trees.holds(last, "a/other.md") is False
    assert trees.holds(last, "other/file.md") is False
    assert trees.holds(last, "A/FILE-0-0.md") is True
    assert trees.holds(last, "link/file.md") is None
    assert trees.holds("f" * 40, "a/file-0-0.md") is None
    assert trees.holds("no commit", "a/file-0-0.md") is None
    assert trees.holds(git(tmp_path, "rev-parse", f"{commits[0]}^{{tree}}").strip(), "a/file-0-0.md") is None


def test_broken_packs_are_not_known_and_raise_nothing(tmp_path: Path) -> None:
    commits = _grown(tmp_path)
    git(tmp_path, "gc", "-q", "--aggressive", "--prune=now")
    (pack,) = (tmp_path / ".git" / "objects" / "pack").glob("*.pack")
    chance, answers = random.Random(7), set()
    for path in (pack, pack.with_suffix(".idx")):
        whole = path.read_bytes()
        path.chmod(0o600)
        for _ in range(60):
            broken = bytearray(whole)
            for _ in range(chance.choice([1, 20, 400])):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            path.write_bytes(broken[: chance.choice([len(broken), chance.randrange(len(broken))])])
            answers |= {Trees(tmp_path / ".git").holds(commit, "deep/er/folder/file-5-39.md") for commit in commits}
        path.write_bytes(whole)
    assert None in answers
    _agrees_with_git(tmp_path, commits)


def test_an_object_that_grows_without_end_is_not_known(tmp_path: Path) -> None:
    commit = _grown(tmp_path)[0]
    loose = tmp_path / ".git" / "objects" / commit[:2] / commit[2:]
    loose.chmod(0o600)
    loose.write_bytes(zlib.compress(b"commit 1\0tree " + b"0" * 50_000_000, 9))
    assert Trees(tmp_path / ".git").holds(commit, "a/file-0-0.md") is None
    loose.unlink()
    os.mkfifo(loose)
    assert Trees(tmp_path / ".git").holds(commit, "a/file-0-0.md") is None
