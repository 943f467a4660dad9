"""The pages on tracing keep their word: every backend has its settings, and what they say of settings is so."""

from __future__ import annotations

import re
from pathlib import Path

from lerim_jobs import config

REPOSITORY = Path(__file__).resolve().parents[2]
HOW_TO = REPOSITORY / "docs" / "how-to"
SEND, SWITCH_ON = ((HOW_TO / name).read_text("utf-8") for name in ("send-traces.md", "trace-jobs.md"))


def test_a10_the_page_shows_settings_for_every_backend() -> None:
    for backend in ("Logfire", "Jaeger", "Zipkin", "Honeycomb", "Datadog", "New Relic", "Phoenix", "MLflow"):
        section = re.search(rf"^## {backend}.*?(?=^## )", SEND, re.MULTILINE | re.DOTALL)
        assert section, backend
        assert re.search(r"^(OTEL_EXPORTER_OTLP_ENDPOINT=http|LOGFIRE_TOKEN=)", section[0], re.MULTILINE), backend


def test_the_settings_on_the_page_are_valid_and_its_defaults_true(tmp_path: Path) -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", SWITCH_ON, re.DOTALL)
    (tmp_path / "config.toml").write_text(block, "utf-8")
    written = config.load({"LERIM_HOME": str(tmp_path)})
    assert (written.tracing.enabled, written.retention) == (True, config.Retention())
    plain = config.Tracing()
    assert (plain.enabled, plain.include_content, plain.include_httpx) == (False, True, False)
