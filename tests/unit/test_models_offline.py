"""The offline rules: only what a user plainly said, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.offline import score
from lerim_jobs.config import Role, Roles, Settings
from lerim_jobs.errors import ConfigError
from lerim_jobs.providers import check_models, resolve
from workers.cues import candidates


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("We decided to keep carts in Redis because it is fast.", "decision"),
        ("Let's use Postgres for the orders table.", "decision"),
        ("Take the queue instead of the cron job for this.", "decision"),
        ("From now on run the linter before each commit.", "preference"),
        ("I prefer small functions over clever ones.", "preference"),
        ("Please never push to main on a Friday.", "preference"),
        ("The fix was to restart the worker after a migration.", "procedure"),
        ("The root cause was a stale cache on the proxy.", "pitfall"),
        ("Keep in mind that the report runs from cron.", "insight"),
        ("We lost two hours because the logs were off.", "friction"),
    ],
)
def test_plain_statements_are_found_word_for_word(said: str, kind: str) -> None:
    (found,) = candidates(f"User: Hello. {said}\n\nAssistant: Fine.")
    assert (found.kind, found.quote) == (kind, said)
    assert found.confidence <= 0.6
    assert found.tags == ["offline"]


@pytest.mark.parametrize(
    "transcript",
    [
        "User: Should we use Postgres instead of MySQL?",
        "Assistant: We decided to use Postgres for the orders.",
        "Tool: error: always use the flag --force here",
        "User: Fix the failing test in the cart module.",
        "User: ```\nwe decided to use tabs here\n```",
        "User: > We decided to use tabs in the old project.",
        "User: ok",
    ],
)
def test_questions_answers_of_the_agent_tool_output_and_quoted_text_are_not(transcript: str) -> None:
    assert candidates(transcript) == []


def test_a_statement_made_twice_counts_once() -> None:
    said = "We decided to keep carts in Redis."
    assert len(candidates(f"User: {said}\n\nAssistant: ok\n\nUser: {said}")) == 1


@pytest.mark.parametrize(("part", "precision"), [("held out", 0.9), ("tuned", 0.95)])
def test_the_documented_figures_of_the_labelled_sets_are_true(part: str, precision: float) -> None:
    found = score(part)
    assert f"| {part} | {found} |" in (Path(__file__).resolve().parents[2] / "docs" / "models.md").read_text("utf-8")
    assert found.precision >= precision


# --- which model, which key ------------------------------------------------------------------------
def settings_with(**role: object) -> Settings:
    one = Role(**role)  # type: ignore[arg-type]
    return Settings(roles=Roles(lead=one, explorer=one, extract=one, summarize=one))


def test_a_key_in_the_environment_chooses_the_provider() -> None:
    found = check_models(Settings(), {"ANTHROPIC_API_KEY": "k"})
    assert {choice.model.provider for choice in found.values()} == {"anthropic"}


def test_nothing_configured_names_keys_and_ways_out() -> None:
    with pytest.raises(ConfigError) as caught:
        check_models(Settings(), {})
    for word in ("OPENROUTER_API_KEY", "OPENAI_API_KEY", "ollama", "LERIM_PROVIDER=offline"):
        assert word in str(caught.value)


def test_a_missing_key_of_a_fallback_is_named_too() -> None:
    with pytest.raises(ConfigError, match="ZAI_API_KEY"):
        check_models(settings_with(provider="openai", fallback_models=("zai:glm-4.7",)), {"OPENAI_API_KEY": "k"})


def test_an_address_of_ones_own_needs_no_key_and_a_new_provider_needs_an_address() -> None:
    check_models(settings_with(api_base="http://127.0.0.1:1/v1", model="m"), {})
    with pytest.raises(ConfigError, match="unknown provider 'mine'"):
        resolve(settings_with(provider="mine", model="m"), {})
    assert (
        resolve(settings_with(provider="mine", model="m", api_base="http://x/v1"), {})["lead"].model.provider == "mine"
    )
    with pytest.raises(ConfigError, match="needs a model"):
        resolve(settings_with(provider="ollama"), {})


@pytest.mark.parametrize(
    ("entry", "provider", "model"),
    [
        ("gpt-5-mini", "openrouter", "gpt-5-mini"),
        ("x-ai/grok:free", "openrouter", "x-ai/grok:free"),
        ("openai:gpt-5-mini", "openai", "gpt-5-mini"),
        ("ollama:qwen3:8b", "ollama", "qwen3:8b"),
    ],
)
def test_fallbacks_name_a_model_or_a_provider_and_a_model(entry: str, provider: str, model: str) -> None:
    choice = resolve(settings_with(provider="openrouter", model="m", fallback_models=(entry,)), {})["extract"]
    assert (choice.fallbacks[0].provider, choice.fallbacks[0].model) == (provider, model)
