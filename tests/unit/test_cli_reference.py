"""The page of commands is the one that the commands make."""

from __future__ import annotations

from tests.cli_reference import PAGE, rendered


def test_the_page_of_commands_is_current() -> None:
    page = rendered()
    assert PAGE.read_text("utf-8") == page, "run `make docs`"
    for part in ("### lerim jobs undo", "`--dry-run`", "| 6 | parked", "`lerim ask [OPTIONS] QUESTION`"):
        assert part in page
