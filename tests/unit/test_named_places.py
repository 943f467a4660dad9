"""What documents and docstrings call a file or a room is one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("lerim_jobs", "workers", "scheduler", "tests", "benchmarks")
MODULES = [f"/{path.relative_to(ROOT)}" for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
NAMED = re.compile(r"`(?:python )?([\w./]+\.py)(?:::\w+)?`")


def named() -> Iterator[tuple[str, str]]:
    for path in [*PAGES, *(ROOT / module[1:] for module in MODULES)]:
        for found in NAMED.finditer(path.read_text("utf-8")):
            yield str(path.relative_to(ROOT)), found[1]


def test_modules_that_are_named_are_there() -> None:
    found = list(named())
    assert len(found) > 20
    assert [one for one in found if not any(module.endswith(f"/{one[1]}") for module in MODULES)] == []


def test_the_rooms_of_the_architecture_are_those_of_the_code() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    listed: dict[str, list[str]] = {}
    package = ""
    for line in text.partition("## Rooms\n")[2].split("```")[1].splitlines():
        name = line.split()[0] if line.split() else ""
        if line.startswith("  "):
            listed[package].append(name)
        elif name:
            package = name
            listed[package] = []
    for package, rooms in listed.items():
        assert [room for room in rooms if not (ROOT / package / room).exists()] == []
    folders = {f"{one.parent.name}/" for one in (ROOT / "lerim_jobs").glob("*/__init__.py")}
    assert folders - set(listed["lerim_jobs/"]) == set()
