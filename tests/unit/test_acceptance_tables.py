"""The pages that promise something name the tests that prove it: every acceptance line has tests, and they exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LINES = [("tracing.md", "a", number) for number in range(1, 19)] + [("operations.md", "b", n) for n in range(1, 10)]


def named_in(page: str, letter: str) -> dict[int, list[str]]:
    """Acceptance line -> its tests, as the table at the page's end has them."""
    table = (REPOSITORY / "docs" / page).read_text("utf-8").partition("## Acceptance")[2]
    rows = re.findall(rf"^\| {letter.upper()}(\d+) (\|.*)$", table, re.MULTILINE)
    return {int(number): re.findall(r"`(test_\w+)`", row) for number, row in rows}


@pytest.mark.parametrize(("page", "letter", "number"), LINES)
def test_the_tests_of_a_line_exist_and_carry_its_number(page: str, letter: str, number: int) -> None:
    defined = {
        name
        for file in (REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)
    }
    named = named_in(page, letter)[number]
    assert set(named) <= defined
    assert any(re.search(rf"_{letter}{number}_", name) for name in named)
