"""Commands as a user types them: bad input is one clear line with the right exit code, and light commands stay light."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.transcripts import write_claude
from tests.zygote import run


def lerim(home: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    base = {"PATH": os.environ["PATH"], "HOME": str(home.parent), "LERIM_HOME": str(home), "LERIM_PROVIDER": "offline"}
    given = {key: value for key, value in {**base, **env}.items() if value}
    return run("lerim_jobs.cli", arguments, given, cwd=home.parent, timeout_s=60)


def refused(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    """One line on stderr that names what is wrong, nothing on stdout, no traceback."""
    lines = done.stderr.strip().splitlines()
    assert (done.returncode, done.stdout) == (code, ""), done
    assert len(lines) == 1, lines
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in lines[0], lines[0]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "h"


def test_broken_toml_names_file_and_line(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text("[tracing\n")
    for command in (["sync"], ["status"], ["jobs", "list"]):
        refused(lerim(home, *command), 2, "config.toml", "line 1")


def test_a_string_where_a_boolean_belongs_names_file_line_and_key(home: Path) -> None:
    home.mkdir()
    (home / "config.toml").write_text('[tracing]\nenabled = "false"\n')
    refused(lerim(home, "sync"), 2, "config.toml:2", "tracing.enabled", "bool")


def test_an_unknown_agent_is_named_with_those_there_are(home: Path) -> None:
    refused(lerim(home, "sync", "--agent", "claud"), 2, "'claud'", "claude_code", "codex")


def test_an_unknown_job_is_named(home: Path) -> None:
    for command in ("show", "watch"):
        refused(lerim(home, "jobs", command, "sync-1"), 2, "'sync-1'", "lerim jobs list")
    refused(lerim(home, "trace", "show", "sync-1"), 2, "'sync-1'")
    refused(lerim(home, "memory", "show", "abc"), 2, "'abc'")


def test_an_unreachable_redis_is_named_without_its_password_and_nothing_is_written(home: Path) -> None:
    lerim(home, "project", "add", str(home.parent))
    done = lerim(home, "ask", "why?", LERIM_REDIS_URL="redis://user:hunter2@127.0.0.1:1/0")
    refused(done, 4, "cannot reach Redis", "127.0.0.1:1", "Is it running?")
    assert "hunter2" not in done.stderr
    assert lerim(home, "jobs", "list", "--json").stdout == ""


def test_an_unwritable_state_folder_is_named(home: Path) -> None:
    home.parent.joinpath("file").write_text("")
    refused(lerim(home, "sync", LERIM_HOME=str(home.parent / "file" / "h")), 2, "state folder", "LERIM_HOME")


def test_a_project_path_that_does_not_exist_is_named(home: Path) -> None:
    refused(lerim(home, "project", "add", "/does/not/exist"), 2, "'/does/not/exist'", "not a folder")
    refused(lerim(home, "project", "remove", "shop"), 2, "'shop'")
    assert lerim(home, "project", "list", "--json").stdout == ""


def test_without_any_model_sync_names_keys_and_ways_out_before_any_work(home: Path) -> None:
    done = lerim(home, "sync", LERIM_PROVIDER="")
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2
    for word in ("OPENAI_API_KEY", "OPENROUTER_API_KEY", "[roles.lead]", "LERIM_PROVIDER=offline"):
        assert word in lines[-1]
    assert lerim(home, "jobs", "list", "--json").stdout == ""


def test_a_missing_key_is_named(home: Path) -> None:
    done = lerim(home, "ask", "why?", LERIM_PROVIDER="anthropic")
    refused(done, 2, "ANTHROPIC_API_KEY", "offline")


def test_unreadable_times_and_windows_are_named(home: Path) -> None:
    refused(lerim(home, "sync", "--window", "7 days"), 2, "'7 days'", "7d")
    refused(lerim(home, "sync", "--since", "yesterday"), 2, "'yesterday'")


def test_a_damaged_log_is_named_and_left_alone(home: Path) -> None:
    home.mkdir()
    (home / "log.sqlite3").write_bytes(b"not a database" * 100)
    refused(lerim(home, "status"), 1, "damaged", "log.sqlite3")
    assert (home / "log.sqlite3").read_bytes() == b"not a database" * 100


def test_wrong_usage_exits_with_2_and_help_with_0(home: Path) -> None:
    assert lerim(home, "sync", "--nonsense").returncode == 2
    assert lerim(home, "nonsense").returncode == 2
    assert lerim(home).returncode == 0
    for command in (
        "sync",
        "maintain",
        "ask",
        "jobs",
        "memory",
        "trace",
        "project",
        "up",
        "down",
        "status",
        "init",
        "demo",
    ):
        assert lerim(home, command, "--help").returncode == 0, command


def test_light_commands_never_load_a_model_library_nor_the_queue(home: Path) -> None:
    heavy = ("dspy", "pydantic_ai", "litellm", "opentelemetry.sdk", "redis", "dramatiq", "logfire")
    script = (
        "import sys, json\nsys.argv = ['lerim', *json.loads(sys.argv[1])]\nfrom lerim_jobs.cli import main\n"
        "try:\n    main.run()\nexcept SystemExit:\n    pass\n"
        f"print('loaded:', [name for name in {heavy!r} if name in sys.modules], file=sys.stderr)\n"
    )
    for command in (
        ["--version"],
        ["status"],
        ["jobs", "list"],
        ["memory", "list"],
        ["memory", "search", "x"],
        ["context"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, json.dumps(command)],
            env={"PATH": os.environ["PATH"], "HOME": str(home.parent), "LERIM_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "loaded: []" in done.stderr, (command, done.stderr)


def test_asking_for_a_job_loads_no_model_library(home: Path) -> None:
    script = (
        "import sys\nsys.argv = ['lerim', 'ask', 'why?', '--no-wait']\nfrom lerim_jobs.cli import main\n"
        "try:\n    main.run()\nexcept SystemExit:\n    pass\n"
        "print('loaded:', [name for name in ('dspy', 'pydantic_ai', 'litellm') if name in sys.modules], file=sys.stderr)\n"
    )
    env = {"PATH": os.environ["PATH"], "HOME": str(home.parent), "LERIM_HOME": str(home), "LERIM_PROVIDER": "offline"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    try:
        assert "loaded: []" in done.stderr, done.stderr
        assert "lerim up" in done.stderr
    finally:
        assert lerim(home, "down", "--json").returncode == 0


def test_json_output_is_nothing_but_json(home: Path) -> None:
    project = home.parent / "shop"
    project.mkdir()
    lerim(home, "project", "add", str(project))
    for command in (["status"], ["project", "list"], ["jobs", "list"], ["memory", "list"], ["init", "--yes"], ["down"]):
        done = lerim(home, *command, "--json")
        assert done.returncode == 0
        for line in done.stdout.splitlines():
            json.loads(line)


def test_init_makes_a_private_folder_and_keeps_an_edited_settings_file(home: Path) -> None:
    write_claude(home.parent / ".claude", "aaaaaaaa-0000-4000-8000-000000000001", "/srv/shop", ["hello there"])
    about = json.loads(lerim(home, "init", "--yes", "--json").stdout)
    assert (about["created_config"], about["sessions"]) == (True, {"claude_code": 1})
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "log.sqlite3").stat().st_mode & 0o777 == 0o600
    (home / "config.toml").write_text("# mine\n")
    assert json.loads(lerim(home, "init", "--json").stdout)["created_config"] is False
    assert (home / "config.toml").read_text() == "# mine\n"


def test_a_project_added_twice_stays_one_and_a_removed_one_can_come_back(home: Path) -> None:
    project = home.parent / "shop"
    project.mkdir()
    first = json.loads(lerim(home, "project", "add", str(project), "--json").stdout)
    again = json.loads(lerim(home, "project", "add", str(project) + "/../shop", "--json").stdout)
    assert (first["already"], again["already"], first["project_id"]) == (False, True, again["project_id"])
    lerim(home, "project", "remove", "shop")
    assert lerim(home, "project", "list", "--json").stdout == ""
    assert json.loads(lerim(home, "project", "add", str(project), "--json").stdout)["already"] is False
