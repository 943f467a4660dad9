"""The offline model is a toy: it is called so, and somebody who can be asked is asked before it writes."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_cli import lerim


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    lerim(tmp_path / "h", "project", "add", str(tmp_path / "shop"))
    return tmp_path / "h"


def test_init_says_that_it_is_for_demos_only(home: Path) -> None:
    assert "demo only" in lerim(home, "init").stdout
    assert json.loads(lerim(home, "init", "--json").stdout)["demo_only"] is True
    with_key = {"LERIM_PROVIDER": "", "OPENAI_API_KEY": "sk-test-0123456789"}
    assert "demo only" not in lerim(home, "init", **with_key).stdout
    assert json.loads(lerim(home, "init", "--json", **with_key).stdout)["demo_only"] is False


@pytest.mark.parametrize("answer", ["n", ""])
def test_a_sync_on_a_terminal_asks_before_it_writes(home: Path, answer: str) -> None:
    terminal, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "HOME": str(home.parent), "LERIM_HOME": str(home), "LERIM_PROVIDER": "offline"}
    process = subprocess.Popen(
        [sys.executable, "-m", "lerim_jobs.cli", "sync"],
        env={**env, "TERM": "dumb"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    os.write(terminal, f"{answer}\n".encode())
    said = b""
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 4096):
            said += part
    os.close(terminal)
    assert process.wait(60) == 0
    assert b"demos only" in said
    assert b"into shop? [y/N]" in said
    assert lerim(home, "jobs", "list", "--json").stdout == ""


def test_where_nobody_can_be_asked_it_is_said(home: Path) -> None:
    told = lerim(home, "sync", "--no-wait")
    assert told.returncode == 0
    assert "demos only" in told.stderr
    assert "demos only" not in lerim(home, "sync", "--no-wait", "--yes").stderr
