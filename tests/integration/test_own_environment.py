"""Parts of ours are started from our own installation, whatever the surroundings put in their way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lerim_jobs.machine.own_environment import own_environment

FOREIGN = ("workers", "scheduler", "redis", "dramatiq", "lerim_jobs", "supervisor")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder with packages and modules that are called like ours and those we need."""
    for name in FOREIGN:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('somebody else')")
        (tmp_path / name / "__main__.py").write_text("raise SystemExit('somebody else')")
    for name in ("apsw.py", "json.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('somebody else')")
    return tmp_path


def found(folder: Path, cwd: Path, **env: str) -> list[str]:
    """Where a child finds the modules."""
    program = f"import importlib.util as u; [print(u.find_spec(n).origin) for n in {FOREIGN!r}]; import json, apsw"
    surroundings = {**os.environ, "PYTHONPATH": str(folder), **env}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=own_environment(surroundings),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("path", ["{foreign}", ".", "", ":{foreign}", "{foreign}:/nowhere"])
def test_neither_a_variable_nor_the_folder_decides_what_is_imported(foreign: Path, path: str) -> None:
    origins = found(foreign, foreign, PYTHONPATH=path.format(foreign=foreign))
    assert len(origins) == len(FOREIGN)
    assert not any(one.startswith(str(foreign)) for one in origins)
    assert any(one.endswith("workers/__init__.py") for one in origins)


def test_everything_else_of_the_environment_stays() -> None:
    given = {"PATH": "/bin", "OPENAI_API_KEY": "k", "PYTHONPATH": "/x", "PYTHONUTF8": "1"}
    assert {**given, "PYTHONPATH": ""}.items() <= {**own_environment(given), "PYTHONPATH": ""}.items()
    assert "/x" not in own_environment(given).get("PYTHONPATH", "")
