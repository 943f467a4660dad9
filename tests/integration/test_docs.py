"""What the documentation says is what happens: its commands run, its tables name real commands, its files are valid."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lerim_jobs.machine.processes import workers_running
from tests.e2e.world import World
from tests.transcripts import write_claude
from tests.waiting import until
from tests.zygote import run

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def commands(page: Path) -> list[str]:
    """Lines behind `$ ` in console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    write_claude(
        made.claude,
        "aaaaaaaa-0000-4000-8000-000000000001",
        str(tmp_path / "code" / "shop"),
        ["We decided to use Postgres instead of MySQL for the orders database."],
        day=22,
    )
    (tmp_path / "code" / "shop").mkdir(parents=True)
    yield made
    made.close()
    assert not made.ours()


@pytest.mark.slow
def test_every_documented_command_runs(machine: World) -> None:
    ran = []
    job = memory = ""
    for command in (line for page in PAGES for line in commands(page)):
        if command.startswith(("make ", "pip ")):
            continue
        if not workers_running(machine.home):  # documented is `lerim down`, too; each command would start its own then
            machine.start("workers", "--slots", "4")
            until(lambda: workers_running(machine.home), 60, what="a worker")
        shell = command.replace("lerim sync", "lerim sync --window all").replace("JOB", job)
        shell = shell.replace("MEMORY_ID", memory)
        done = subprocess.run(
            ["sh", "-c", shell],
            env=machine.env | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            cwd=machine.root,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{machine.logs()}"
        ran.append(command)
        if "sync" in command:
            job = machine.json("jobs", "list")[0]["job_id"]
            memory = machine.json("memory", "list")[0]["memory_id"]
    assert len(ran) >= 12


def documented_fields() -> dict[str, set[str]]:
    """Command -> the fields of its `--json`, as the page has them."""
    page = (REPOSITORY / "docs" / "reference" / "json.md").read_text("utf-8")
    found: dict[str, set[str]] = {}
    for part in re.split(r"^### ", page.partition("## Other commands")[0], flags=re.MULTILINE)[1:]:
        heading, _, rest = part.partition("\n")
        rows = re.findall(r"^\| (`.+?) \|", rest, re.MULTILINE)
        fields = {field for row in rows for field in re.findall(r"`(\w+)`", row)}
        for command in re.findall(r"`lerim (.+?)`", heading):
            also = found["memory list"] if "Those of `memory list`" in rest else set()
            found[command] = fields | also
    for command, row in re.findall(r"^\| `lerim (.+?)` \| (.+?) \|$", page, re.MULTILINE):
        found[command] = set(re.findall(r"`(\w+)`", row))
    return found


def test_json_has_the_documented_fields_and_no_others(machine: World) -> None:
    with machine.workers(1):
        machine.lerim("project", "add", str(machine.root / "code" / "shop"))
        job = machine.sync()["job_id"]
        memory = machine.json("memory", "list")[0]["memory_id"]
        fields = documented_fields()
        assert len(fields) >= 25
        jobs = {command: fields.pop(command) for command in ("sync", "maintain", "ask")}
        for command, wanted in fields.items():
            words = command.replace("JOB", job).replace("MEMORY_ID", memory).replace('"', "").split()
            (first, *_) = machine.json(*words)
            assert set(first) == wanted, command
        # One table for the three kinds of jobs: each prints what is common and its own.
        printed = [
            set(machine.json(*words)[-1]) for words in (["sync"], ["sync", "--estimate"], ["maintain"], ["ask", "x"])
        ]
        assert set.union(*printed) == jobs["sync"]


def test_documented_make_targets_exist() -> None:
    targets = {command.split()[1] for page in PAGES for command in commands(page) if command.startswith("make ")}
    for target in targets | {"bench", "bench-search", "eval", "test-backends", "test-sessions", "lock", "clean"}:
        done = subprocess.run(
            ["make", "-n", target, "LERIM_TEST_SESSIONS=x"], cwd=REPOSITORY, capture_output=True, check=False
        )
        assert done.returncode == 0, target


def test_every_command_in_the_table_has_a_help_page(tmp_path: Path) -> None:
    table = re.findall(r"^\| `lerim ([a-z ]+)", (REPOSITORY / "README.md").read_text("utf-8"), re.MULTILINE)
    assert len(table) >= 9
    for words in table:
        done = run("lerim_jobs.cli", [*words.split(), "--help"], {}, cwd=tmp_path, timeout_s=60)
        assert done.returncode == 0, words


def test_b1_the_compose_file_is_valid() -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [tool, "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_b1_the_procfile_is_valid_and_names_workers_and_scheduler() -> None:
    tool = Path(sys.executable).with_name("honcho")
    done = subprocess.run([tool, "check"], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "workers" in done.stderr + done.stdout
    assert "scheduler" in done.stderr + done.stdout


def test_the_lock_file_has_hashes_and_no_index_address() -> None:
    text = (REPOSITORY / "requirements.lock").read_text("utf-8")
    assert "://" not in text
    assert text.count("--hash=sha256:") > 500
