"""What a repository's own settings file may say: it may only narrow what the user allows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lerim_jobs import config
from lerim_jobs.config import Budget, Settings
from lerim_jobs.errors import ConfigError
from lerim_jobs.project_file import MAY_SAY, lowered

MINE = """
[roles.lead]
provider = "mylab"
model = "large"
api_base = "http://127.0.0.1:1/v1"
fallback_models = ["openai:gpt-5-mini"]
[roles.extract]
provider = "openai"
model = "small"
fallback_models = ["tiny"]
max_window_tokens = 8000
[prices."large"]
input_per_million = 100.0
output_per_million = 100.0
[budget]
per_job_usd = 1.0
per_role_usd = { lead = 0.5 }
[tracing]
include_content = false
"""


def load(tmp_path: Path, theirs: str, *, mine: str = MINE) -> Settings:
    home, repository = tmp_path / "home", tmp_path / "repository"
    (repository / ".lerim").mkdir(parents=True, exist_ok=True)
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(mine)
    (repository / ".lerim" / "config.toml").write_text(theirs)
    return config.load({"LERIM_HOME": str(home)}, project=repository)


def value(settings: Settings, key: str) -> Any:
    found: Any = settings
    for name in key.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    return found


@pytest.mark.parametrize(
    ("theirs", "key", "wanted"),
    [
        ("[roles.extract]\nmax_window_tokens = 2000", "roles.extract.max_window_tokens", 2000),
        ("[roles.extract]\nwindow_overlap_tokens = 20", "roles.extract.window_overlap_tokens", 20),
        ("[roles.lead]\ntimeout_seconds = 10", "roles.lead.timeout_seconds", 10),
        ("[roles.summarize]\nmax_output_tokens = 100", "roles.summarize.max_output_tokens", 100),
        ("[roles.explorer]\nmax_iterations = 1", "roles.explorer.max_iterations", 1),
        ("[budget]\nper_job_usd = 0.5", "budget.per_job_usd", 0.5),
        ("[budget.per_role_usd]\nextract = 0.1", "budget.per_role_usd", {"lead": 0.5, "extract": 0.1}),
        ("[decay]\nenabled = false\ndecay_days = 400", "decay.decay_days", 400),
        ("[memory]\nmax_archived_per_job = 0", "memory.max_archived_per_job", 0),
        ("[tracing]\nenabled = true", "tracing.enabled", True),
        ("[tracing]\ninclude_content = true", "tracing.include_content", False),
        ("[tracing]\ninclude_httpx = true", "tracing.include_httpx", True),
        ("[roles.lead]\nfallback_models = []", "roles.lead.fallback_models", ()),
        (
            '[roles.extract]\nfallback_models = ["openai:gpt-5-mini"]',
            "roles.extract.fallback_models",
            ("openai:gpt-5-mini",),
        ),
        ('[roles.lead]\nfallback_models = ["openai:small"]', "roles.lead.fallback_models", ("openai:small",)),
    ],
)
def test_it_may_narrow(tmp_path: Path, theirs: str, key: str, wanted: Any) -> None:
    assert value(load(tmp_path, theirs), key) == wanted


@pytest.mark.parametrize(
    ("theirs", "where"),
    [
        ('[roles.lead]\napi_base = "http://evil.example/v1"', ":2: roles.lead.api_base: only your own settings"),
        ('[roles.lead]\nprovider = "openrouter"', ":2: roles.lead.provider: only your own settings"),
        ('[roles.lead]\nthinking = "xhigh"', ":2: roles.lead.thinking: only your own"),
        ('[roles.lead]\nopenrouter_provider_order = ["evil"]', "openrouter_provider_order: only your own"),
        ('[providers.openai]\napi_base = "http://evil.example/v1"', ":2: providers.openai.api_base: only your own"),
        ("[providers.openai]\nrequests_per_minute = 1", "providers.openai.requests_per_minute: only your own"),
        ('[prices."large"]\ninput_per_million = 0.0\noutput_per_million = 0.0', "prices.large.input_per_million: only"),
        ("[budget]\nper_job_usd = 1.5", ":2: budget.per_job_usd: a project's file may only lower it, and yours says 1"),
        ("[budget]\nper_job_usd = nan", "budget.per_job_usd: a project's file may only lower it"),
        ("[budget]\nper_day_usd = inf", "budget.per_day_usd: a project's file may only lower it"),
        ("[budget.per_role_usd]\nlead = 0.6", "budget.per_role_usd.lead: a project's file may only lower it"),
        (
            "[roles.extract]\nmax_window_tokens = 9000",
            "roles.extract.max_window_tokens: a project's file may only lower",
        ),
        ("[roles.lead]\ntimeout_seconds = inf", "roles.lead.timeout_seconds: a project's file may only lower"),
        ("[memory]\nmax_archived_per_job = 51", "memory.max_archived_per_job: a project's file may only lower"),
        ('[queue]\nredis_url = "redis://evil.example"', ":2: queue.redis_url: only your own"),
        ('[agents]\ncodex = "/etc"', ":2: agents.codex: only your own"),
        ("[retention]\nanswers_days = 0", "retention.answers_days: only your own"),
        ("[schedule]\nsync_interval_minutes = 1", "schedule.sync_interval_minutes: only your own"),
        ("[search]\nembeddings = true", "search.embeddings: only your own"),
        ('[tracing]\nui_url = "http://evil.example/{trace_id}"', ":2: tracing.ui_url: only your own"),
        ('[roles.lead]\nmodel = "gpt-9-ultra"', ":2: roles.lead.model: 'gpt-9-ultra' is none of the models"),
        ('[roles.extract]\nmodel = "openai:gpt-5-mini"', "roles.extract.model: 'openai:gpt-5-mini' is none"),
        ('[roles.lead]\nfallback_models = ["evil:large"]', "roles.lead.fallback_models: 'evil:large' is none"),
        ('[roles.extract]\nfallback_models = ["large"]', "roles.extract.fallback_models: 'large' is none"),
        ("[roles.lead]\nmodell = 'x'", "roles.lead.modell: there is no such setting"),
        ("<<<<<<< HEAD", "config.toml: not valid TOML"),
        ("a = " + "[" * 20_000, "config.toml: not valid TOML"),
        ("# " + "x" * 70_000, "larger than 64 KiB"),
    ],
)
def test_it_may_not_widen(tmp_path: Path, theirs: str, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, theirs)
    assert where in str(caught.value)
    assert str(tmp_path / "repository" / ".lerim" / "config.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_of_the_users_models_comes_with_its_own_provider_and_address(tmp_path: Path) -> None:
    roles = load(tmp_path, '[roles.extract]\nmodel = "large"\n[roles.summarize]\nmodel = "tiny"\n').roles
    assert (roles.extract.provider, roles.extract.model, roles.extract.api_base) == (
        "mylab",
        "large",
        "http://127.0.0.1:1/v1",
    )
    assert (roles.summarize.provider, roles.summarize.model, roles.summarize.api_base) == ("openai", "tiny", "")


def test_what_the_user_does_not_forbid_a_project_may_switch(tmp_path: Path) -> None:
    assert load(tmp_path, "[tracing]\ninclude_content = false", mine="").tracing.include_content is False
    assert load(tmp_path, "[tracing]\nenabled = false", mine="[tracing]\nenabled = true").tracing.enabled is False
    assert (
        load(tmp_path, "[tracing]\ninclude_httpx = true", mine="[tracing]\ninclude_httpx = false").tracing.include_httpx
        is False
    )


def test_a_file_that_is_none_says_nothing(tmp_path: Path) -> None:
    load(tmp_path, "")
    place = tmp_path / "repository" / ".lerim" / "config.toml"
    place.unlink()
    os.mkfifo(place)
    assert load_again(tmp_path) == config.load({"LERIM_HOME": str(tmp_path / "home")})
    place.unlink()
    place.symlink_to("/dev/zero")
    assert load_again(tmp_path) == config.load({"LERIM_HOME": str(tmp_path / "home")})


def load_again(tmp_path: Path) -> Settings:
    return config.load({"LERIM_HOME": str(tmp_path / "home")}, project=tmp_path / "repository")


def test_every_key_on_the_list_is_a_setting() -> None:
    for pattern in MAY_SAY:
        found: Any = Settings()
        for name in pattern.replace("roles.*", "roles.lead").split("."):
            if name != "*":
                assert hasattr(found, name), pattern
                found = getattr(found, name)


def test_a_projects_lower_cap_counts_for_its_calls_and_a_higher_one_does_not() -> None:
    mine = Settings(budget=Budget(per_job_usd=1.0, per_day_usd=5.0, per_role_usd={"lead": 2.0}))
    caps = {"per_job_usd": 0.2, "per_day_usd": 50.0, "per_role_usd.lead": 1.0, "per_role_usd.extract": 0.1}
    theirs = {"decay.decay_days": 40, **{f"budget.{key}": cap for key, cap in caps.items()}}
    found = lowered(mine, theirs).budget
    assert (found.per_job_usd, found.per_day_usd, found.per_role_usd) == (0.2, 5.0, {"lead": 1.0, "extract": 0.1})
    assert lowered(mine, {}) == mine
    raised = Settings(budget=Budget(per_job_usd=0.1))
    assert lowered(raised, theirs).budget.per_job_usd == 0.1
