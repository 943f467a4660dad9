"""Who decides about tracing and when: files, variables, the caller, packages; `docs/tracing.md` maps the numbers."""

from __future__ import annotations

import json
import re
import sys
import venv
from pathlib import Path

import pytest

from lerim_jobs.log.events import JobRequested
from lerim_jobs.tracing.local.tree import check
from tests.e2e.traces import FACTS, WHOLE, session_id, whole_trace
from tests.e2e.world import World
from tests.model_server import ModelServer
from tests.otlp_receiver import OtlpReceiver


def test_a6_a16_the_variable_only_switches_on_and_stderr_stays_the_same(world: World) -> None:
    world.extra_env["LERIM_TRACING"] = "0"
    with world.workers(1):
        off = world.lerim("sync", "--window", "all")
        assert world.json("trace", "list") == []
        timeline = world.lerim("trace", "show", world.json("jobs", "list")[0]["job_id"])
        assert "Tracing was off for this job" in timeline.stderr
        assert [line for line in timeline.stdout.splitlines() if "Index sessions" in line]
        world.extra_env["LERIM_TRACING"] = " Yes "
        on = world.lerim("sync", "--window", "all")
        (traced,) = world.json("trace", "list")
        assert on.stderr == off.stderr
        assert f"lerim trace show {traced['job_id']}" in on.stdout
        world.home.config.write_text(f"{world.home.config.read_text()}\n[tracing]\nenabled = true\n")
        world.extra_env["LERIM_TRACING"] = "0"
        warned = world.lerim("sync", "--window", "all").stderr
    (line,) = [line for line in warned.splitlines() if "LERIM_TRACING" in line]
    assert "enabled = false" in line
    assert "OTEL_SDK_DISABLED=true" in line
    assert len(world.json("trace", "list")) == 2


def test_a7_the_callers_backend_gets_the_trace_of_workers_that_know_nothing_of_it(
    world: World, server: ModelServer
) -> None:
    world.session(session_id(1), FACTS[:1])
    world.extra_env["LERIM_TRACING"] = ""
    with world.workers(1), OtlpReceiver() as receiver:
        world.extra_env.update(LERIM_TRACING="1", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url)
        world.extra_env["OTEL_EXPORTER_OTLP_HEADERS"] = "x-team=blue"
        job_id = world.sync()["job_id"]
        assert check(receiver.spans()) == WHOLE
        assert {span.span_id for span in receiver.spans()} == {span.span_id for span in whole_trace(world, job_id)}
        assert receiver.posts[0].headers["x-team"] == "blue"
        later = world.json("sync", "--window", "all", "--no-wait")[0]["job_id"]
        world.lerim("jobs", "watch", later)
        assert check([one for one in receiver.spans() if one.attributes.get("lerim.job_id") == later]) == WHOLE
        found = world.json("trace", "status")[0]
    assert found["traces"] is True
    assert found["settings"]["enabled"] == {"value": True, "from": "LERIM_TRACING"}
    assert found["backends"] == [f"otlp {receiver.url}"]
    (worker,) = found["workers"]
    assert (worker["tracing"], worker["from"], worker["backends"]) == (False, "default", [])
    assert "x-team" not in json.dumps(found)
    assert "local store" in world.lerim("trace", "status").stdout


def test_a6_a_project_may_switch_on_and_the_strictest_project_decides_about_content(offline: World) -> None:
    loud, quiet = offline.project, offline.root / "code" / "quiet"
    quiet.mkdir(parents=True)
    for folder, line in ((loud, "enabled = true"), (quiet, "include_content = false")):
        offline.lerim("project", "add", str(folder))
        (folder / ".lerim").mkdir(exist_ok=True)
        (folder / ".lerim" / "config.toml").write_text(f"[tracing]\n{line}\n")
    offline.extra_env["LERIM_TRACING"] = ""

    def asked(*arguments: str) -> JobRequested:
        job_id = offline.json(*arguments, "--no-wait")[-1]["job_id"]
        return offline.events(job_id)[0].as_(JobRequested)

    assert asked("sync").sampled is False
    assert (asked("maintain", "--project", "shop").sampled, asked("maintain", "--project", "quiet").sampled) == (
        True,
        False,
    )
    offline.extra_env["LERIM_TRACING"] = "1"
    assert asked("sync").include_content is False
    assert asked("ask", "What?").include_content is False
    assert asked("ask", "What?", "--project", "shop").include_content is True


@pytest.mark.slow
def test_a8_a_file_is_read_at_start_and_status_says_where_each_value_comes_from(offline: World) -> None:
    offline.extra_env["LERIM_TRACING"] = ""

    def status() -> tuple[dict[str, object], list[tuple[bool, str]]]:
        found = offline.json("trace", "status")[0]
        return found["settings"]["enabled"], [(one["tracing"], one["from"]) for one in found["workers"]]

    offline.lerim("up")
    assert status() == ({"value": False, "from": "default"}, [(False, "default")])
    offline.home.config.write_text("[tracing]\nenabled = true\n")
    file = str(offline.home.config)
    assert status() == ({"value": True, "from": file}, [(False, "default")])
    offline.lerim("down")
    offline.lerim("up")
    assert status() == ({"value": True, "from": file}, [(True, file)])
    offline.extra_env["OTEL_SDK_DISABLED"] = "true"
    assert offline.json("trace", "status")[0]["traces"] is False
    assert "Jobs asked for here are not traced." in offline.lerim("trace", "status").stdout


@pytest.fixture
def without_logfire(tmp_path: Path) -> str:
    """The Python of an environment that has everything this one has, but no logfire."""
    venv.create(tmp_path / "bare", symlinks=True)
    place = Path(next(path for path in sys.path if path.endswith("site-packages")))
    target = next((tmp_path / "bare").glob("lib/python*/site-packages"))
    for entry in place.iterdir():
        if not re.match(r"logfire(-.*)?$", entry.name) and not (target / entry.name).exists():
            (target / entry.name).symlink_to(entry)
    return str(tmp_path / "bare" / "bin" / "python")


@pytest.mark.slow
def test_a17_without_logfire_one_line_names_the_extra_and_only_when_tracing_is_on(
    offline: World, without_logfire: str
) -> None:
    offline.python = without_logfire
    offline.session(session_id(1), ["We decided to use Postgres instead of MySQL for the orders database."])
    log = offline.home.logs / "worker.log"
    offline.extra_env["LERIM_TRACING"] = ""
    off = offline.lerim("sync", "--window", "all")
    assert "logfire" not in off.stderr + log.read_text()
    offline.extra_env["LERIM_TRACING"] = "1"
    on = offline.lerim("sync", "--window", "all")
    for text in (on.stderr.removeprefix(off.stderr), log.read_text()):
        (line,) = [line for line in text.splitlines() if "logfire" in line.lower()]
        assert "pip install 'lerim-jobs[trace]'" in line
    (traced,) = offline.json("trace", "list")
    assert check(whole_trace(offline, traced["job_id"])) == WHOLE
    assert "Traceback" not in log.read_text()
