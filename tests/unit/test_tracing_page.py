"""The page on tracing keeps its word: every acceptance line has tests that exist, every backend its settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lerim_jobs import config

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = (REPOSITORY / "docs" / "tracing.md").read_text("utf-8")


def rows() -> dict[int, list[str]]:
    """Acceptance line -> its tests, as the table at the page's end has them."""
    table = PAGE.partition("## Acceptance")[2]
    found = re.findall(r"^\| A(\d+) \|.*$", table, re.MULTILINE)
    lines = [line for line in table.splitlines() if re.match(r"\| A\d+ ", line)]
    return {int(number): re.findall(r"`(test_\w+)`", line) for number, line in zip(found, lines, strict=True)}


def test_every_line_of_the_acceptance_list_is_in_the_table() -> None:
    assert sorted(rows()) == list(range(1, 19))


@pytest.mark.parametrize("number", range(1, 19))
def test_the_tests_of_a_line_exist_and_one_carries_its_number(number: int) -> None:
    defined = {
        name
        for file in (REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text("utf-8"), re.MULTILINE)
    }
    named = rows()[number]
    assert named
    assert set(named) <= defined
    assert any(re.search(rf"_a{number}_", name) for name in named)


def test_a10_the_page_shows_settings_for_every_backend() -> None:
    for backend in ("Logfire", "Jaeger", "Zipkin", "Honeycomb", "Datadog", "New Relic", "Phoenix", "MLflow"):
        section = re.search(rf"^### {backend}.*?(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
        assert section, backend
        assert re.search(r"^(OTEL_EXPORTER_OTLP_ENDPOINT=http|LOGFIRE_TOKEN=)", section[0], re.MULTILINE), backend


def test_the_settings_on_the_page_are_valid_and_its_defaults_true(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "config.toml").write_text(block, "utf-8")
    written = config.load({"LERIM_HOME": str(tmp_path)})
    assert (written.tracing.enabled, written.retention) == (True, config.Retention())
    plain = config.Tracing()
    assert (plain.enabled, plain.include_content, plain.include_httpx) == (False, True, False)
