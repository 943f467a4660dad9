"""A failed test gets one more try, which is counted; for many of them that is no way to green."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
TESTS = """
import pathlib

import pytest


@pytest.mark.parametrize("name", {unlucky!r})
def test_passes_at_the_second_try(name):
    tried = pathlib.Path("tried-" + name)
    was_tried = tried.exists()
    tried.touch()
    assert was_tried


def test_other():
    assert {passes}
"""


def run(folder: Path, *unlucky: str, passes: bool = True) -> tuple[int, list[str]]:
    """Exit status and record of a run with tests that fail at their first try, and another one."""
    (folder / "pytest.ini").write_text("[pytest]\n", "utf-8")
    (folder / "test_luck.py").write_text(TESTS.format(unlucky=list(unlucky), passes=passes), "utf-8")
    env = {"PYTHONPATH": str(REPOSITORY), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p xdist"}
    done = subprocess.run([sys.executable, "-m", "tests.second_tries"], cwd=folder, env=env, check=False, timeout=120)
    record = folder / ".second-tries.txt"
    return done.returncode, record.read_text("utf-8").splitlines() if record.exists() else []


def line(count: int, name: str) -> str:
    return f"{count} test_luck.py::test_passes_at_the_second_try[{name}]"


def test_two_tests_may_need_a_second_try_and_each_is_counted(tmp_path: Path) -> None:
    assert run(tmp_path, "a", "b") == (0, [line(1, "a"), line(1, "b")])
    (tmp_path / "tried-b").unlink()
    assert run(tmp_path, "a", "b") == (0, [line(2, "b"), line(1, "a")])


def test_three_tests_that_need_one_are_a_failure(tmp_path: Path) -> None:
    assert run(tmp_path, "a", "b", "c") == (1, [])


@pytest.mark.parametrize("passes", [True, False])
def test_what_fails_twice_fails_and_what_passes_is_not_tried_again(tmp_path: Path, *, passes: bool) -> None:
    recorded = [] if passes else ["1 test_luck.py::test_other"]
    assert run(tmp_path, passes=passes) == (int(not passes), recorded)
