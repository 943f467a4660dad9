"""The package is typed for those who install it: a program of theirs is checked, and the wheel carries the markers."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("lerim_jobs", "workers", "scheduler")


def test_a_program_outside_of_the_repository_is_checked_against_the_installed_package(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text((REPOSITORY / "tests" / "typing" / "program.py").read_text("utf-8"), "utf-8")
    cache = REPOSITORY / ".mypy_cache" / "installed"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", program.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_has_the_markers_and_every_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        inside = set(file.namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside
    ours = {str(path.relative_to(REPOSITORY)) for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")}
    assert ours <= inside
