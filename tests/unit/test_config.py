"""Settings: layers, defaults, and errors that name file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from lerim_jobs import config
from lerim_jobs.errors import ConfigError


def write(folder: Path, text: str) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(text, "utf-8")
    return {"LERIM_HOME": str(folder)}


def test_defaults_without_any_file(tmp_path: Path) -> None:
    settings = config.load({"LERIM_HOME": str(tmp_path)})
    assert (settings.tracing.enabled, settings.tracing.include_httpx, settings.tracing.include_content) == (
        False,
        False,
        True,
    )
    assert (settings.roles.lead.timeout_seconds, settings.roles.explorer.max_iterations) == (300, 8)


def test_project_beats_user_and_environment_beats_both(tmp_path: Path) -> None:
    env = write(
        tmp_path / "home", '[roles.lead]\nmodel = "user"\nprovider = "openai"\n[roles.extract]\nmodel = "small"\n'
    )
    (tmp_path / "repo").mkdir()
    write(tmp_path / "repo" / ".lerim", '[roles.lead]\nmodel = "small"\n')
    settings = config.load({**env, "LERIM_PROVIDER": "ollama"}, project=tmp_path / "repo")
    assert (settings.roles.lead.model, settings.roles.lead.provider) == ("small", "ollama")
    assert (settings.roles.extract.model, settings.roles.lead.timeout_seconds) == ("small", 300)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[tracing]\n\nenabled = "false"\n', "config.toml:3: tracing.enabled: expected `bool`, got `str`"),
        ("[tracing]\nenabledd = true\n", "config.toml:2: tracing.enabledd: there is no such setting"),
        ("[roles.lead]\ntimeout_seconds = -1\n", "config.toml:1: roles.lead: timeout_seconds must be above 0"),
        ("[roles.leader]\nmodel = 'x'\n", "config.toml:1: roles.leader: there is no such setting"),
        ("tracing.enabled = 1\n", "config.toml:1: tracing.enabled: expected `bool`, got `int`"),
        ("[tracing\n", "config.toml: not valid TOML"),
        ("[schedule]\nsync_interval_minutes = 7\n", "must divide 60"),
    ],
)
def test_a6_a_broken_file_names_file_line_and_key(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(write(tmp_path, text))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["1", "true", "YES", " On "])
def test_a6_the_variable_enables_tracing(tmp_path: Path, value: str) -> None:
    assert config.load({"LERIM_HOME": str(tmp_path), "LERIM_TRACING": value}).tracing.enabled


@pytest.mark.parametrize("value", ["0", "false", "off", "", "2"])
def test_a6_the_variable_never_disables_tracing(tmp_path: Path, value: str) -> None:
    env = write(tmp_path, "[tracing]\nenabled = true\n")
    assert config.load({**env, "LERIM_TRACING": value}).tracing.enabled
    assert not config.load({"LERIM_HOME": str(tmp_path / "other"), "LERIM_TRACING": value}).tracing.enabled


def test_keys_come_from_the_env_file_unless_the_shell_has_them(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("# keys\nexport OPENAI_API_KEY='from file'\nZAI_API_KEY=zai\n", "utf-8")
    env = config.environment({"LERIM_HOME": str(tmp_path), "ZAI_API_KEY": "from shell"})
    assert (env["OPENAI_API_KEY"], env["ZAI_API_KEY"]) == ("from file", "from shell")
