"""`lerim doctor` names what is wrong and the next step, and touches nothing; `connect` and `logs` beside it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from lerim_jobs import config
from lerim_jobs.audit.audit import audit
from lerim_jobs.care.doctor import Finding, examine
from lerim_jobs.care.settings_file import set_agent
from lerim_jobs.config import Agent, Settings
from lerim_jobs.errors import ConfigError
from lerim_jobs.jobs.request import request_job
from lerim_jobs.log.events import JobRequested, MemoryAdded, ProjectAdded
from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.machine import processes
from lerim_jobs.machine.identity import host_name
from tests.e2e.world import World


@pytest.fixture
def healthy(tmp_path: Path) -> World:
    """A machine with a project and an agent's folder, and nothing running."""
    world = World(tmp_path)
    world.home.ensure()
    world.home.config.write_text("# mine\n[tracing]\nenabled = false  # not yet\n", "utf-8")
    world.home.config.chmod(0o600)
    store = SqliteStore(world.home.log)
    store.append("project-p", [ProjectAdded("p", "shop", str(world.project), host_name())])
    store.close()
    world.session("aaaaaaaa-0000-4000-8000-000000000001", ["Hello."])
    return world


def look(world: World) -> dict[str, Finding]:
    """What is not well, by check; the disk of the test machine is its own business."""
    found = examine({"PATH": "/usr/bin:/bin", **world.env})
    return {one.check: one for one in found if one.status != "ok" and one.check != "disk"}


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def test_a_healthy_machine_has_nothing_wrong_and_is_left_as_it_is(healthy: World) -> None:
    before = tree(healthy.root)
    assert look(healthy) == {}
    assert tree(healthy.root) == before


def test_a_missing_state_folder_is_not_made(tmp_path: Path) -> None:
    found = examine({"LERIM_HOME": str(tmp_path / "none"), "PATH": "/usr/bin"})
    assert [(one.check, one.next) for one in found if one.status == "problem"] == [("state folder", "lerim init")]
    assert not (tmp_path / "none").exists()


def broken_settings(world: World) -> None:
    world.home.config.write_text("[tracing]\nenabled = 'yes'\n", "utf-8")


def open_to_others(world: World) -> None:
    world.home.root.chmod(0o755)


def damaged_log(world: World) -> None:
    data = bytearray(world.home.log.read_bytes())
    data[4096 : 4096 * 3] = b"\xff" * 4096 * 2
    world.home.log.write_bytes(data)


def newer_log(world: World) -> None:
    apsw.Connection(str(world.home.log)).pragma("user_version", 99)


def unreadable_event(world: World) -> None:
    """What a version that did not look could append: a project without a name, beside one that is well."""
    store = SqliteStore(world.home.log)
    store.append("project-q", [ProjectAdded("q", "other", "/q", "h")])
    store.append("memory-m", [MemoryAdded("m", "p", "decision", "Tabs", "We use tabs.", 0.9)])
    store.close()
    apsw.Connection(str(world.home.log)).execute(
        "UPDATE events SET data = json_set(data, '$.name', null) WHERE stream = 'project-q'"
    )


def project_gone(world: World) -> None:
    world.project.rename(world.root / "moved")


def agent_gone(world: World) -> None:
    world.home.config.write_text('[agents]\ncodex = "/nowhere"\n', "utf-8")


def dead_record(world: World) -> None:
    (world.home.run / "workers").mkdir()
    (world.home.run / "workers" / "h-1-aa.json").write_text('{"host":"h","pid":1,"start":"1","started_ms":1}')


def interrupted_restore(world: World) -> None:
    (world.home.root / ".lerim-abc").mkdir()


def clock_behind(world: World) -> None:
    db = apsw.Connection(str(world.home.log))
    db.execute("UPDATE events SET at_ms = ?", (int(time.time() * 1000) + 3_600_000,))


def stuck_job(world: World) -> None:
    store = SqliteStore(world.home.log)
    request_job(store, "j", JobRequested("sync", {}, "all", "cli", "h", "t" * 32, "s" * 16, 1))
    store.close()
    apsw.Connection(str(world.home.log)).execute("UPDATE stages SET due_ms = 1, sent_ms = 1")


def no_key(world: World) -> None:
    world.home.config.write_text('[roles.lead]\nprovider = "anthropic"\n', "utf-8")
    world.extra_env |= {"LERIM_PROVIDER": "", "ANTHROPIC_API_KEY": ""}


def backend_away(world: World) -> None:
    world.extra_env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"


def redis_away(world: World) -> None:
    world.extra_env["LERIM_REDIS_URL"] = "redis://127.0.0.1:9"


SABOTAGE: list[tuple[Callable[[World], None], str, str]] = [
    (broken_settings, "settings", "correct"),
    (open_to_others, "permissions", "chmod"),
    (damaged_log, "log.sqlite3", "lerim restore"),
    (newer_log, "schema", "upgrade"),
    (unreadable_event, "events", "lerim restore"),
    (project_gone, "projects", "lerim project remove shop"),
    (agent_gone, "agents", "lerim connect codex"),
    (dead_record, "leftovers", "lerim status"),
    (interrupted_restore, "leftovers", "remove them"),
    (clock_behind, "clock", "clock"),
    (stuck_job, "jobs", "lerim up"),
    (no_key, "models", "lerim models"),
    (backend_away, "traces backend", "start it"),
    (redis_away, "redis", "start it"),
]


@pytest.mark.parametrize(("sabotage", "check", "step"), SABOTAGE, ids=[one[0].__name__ for one in SABOTAGE])
def test_each_fault_is_named_with_the_next_step(
    healthy: World, sabotage: Callable[[World], None], check: str, step: str
) -> None:
    sabotage(healthy)
    before = tree(healthy.home.root)
    found = look(healthy)
    assert check in found, found
    assert step in found[check].next
    assert tree(healthy.home.root) == before


def test_no_command_closes_a_folder_that_others_use(healthy: World) -> None:
    open_to_others(healthy)
    healthy.lerim("status")
    assert healthy.home.root.stat().st_mode & 0o777 == 0o755


def test_settings_that_running_processes_do_not_know_yet_are_named(healthy: World) -> None:
    held = processes.register_worker(healthy.home, queues=["ask"], tracing=False)
    assert look(healthy) == {}
    later = time.time() + 60
    os.utime(healthy.home.config, (later, later))
    assert "lerim down && lerim up" in look(healthy)["settings in use"].next
    held.close()


def test_one_event_that_cannot_be_read_stops_no_command_and_is_named(healthy: World) -> None:
    unreadable_event(healthy)
    event = "event 2 (ProjectAdded in 'project-q') cannot be read"
    for command in (
        "project list",
        "memory list",
        "memory show m",
        "memory history m",
        "memory list --as-of 2000-01-01",
    ):
        healthy.lerim(*command.split())
    for command in ("usage", "report", "jobs list", "status"):
        healthy.lerim(*command.split())
    [rebuilt] = healthy.json("rebuild")
    assert (rebuilt["documents"]["memories"], rebuilt["documents"]["projects"], rebuilt["changed"]) == (1, 1, [])
    assert healthy.lerim("rebuild").stderr.count(event) == 1
    assert event in healthy.lerim("doctor", expect=1).stdout
    store = SqliteStore(healthy.home.log)
    zeros = {
        zero.name: zero.breaches for zero in audit(healthy.home, store, Settings(), healthy.env, patience_s=0).zeros
    }
    store.close()
    assert [(one.id, event in one.what) for one in zeros["unaccounted"]] == [("project-q event 2", True)]


def test_the_command_ends_with_1_only_for_a_problem(healthy: World) -> None:
    [said] = healthy.json("doctor", expect=None)
    assert {one["check"] for one in said["checks"]} >= {
        "python",
        "sqlite",
        "settings",
        "models",
        "redis",
        "jobs",
        "projects",
    }
    project_gone(healthy)
    done = healthy.lerim("doctor", expect=1)
    assert "lerim project remove shop" in done.stdout


def test_connect_writes_one_line_and_keeps_the_rest(healthy: World) -> None:
    elsewhere = healthy.root / "else where"
    elsewhere.mkdir()
    rows = {row["agent"]: row for row in healthy.json("connect")}
    assert (rows["claude_code"]["status"], rows["claude_code"]["sessions"]) == ("read", 1)
    healthy.lerim("connect", "codex", str(elsewhere))
    text = healthy.home.config.read_text("utf-8")
    assert text.startswith("# mine\n[tracing]\nenabled = false  # not yet\n")
    agents = config.load(healthy.env).agents
    assert agents["codex"] == Agent(str(elsewhere), enabled=True)
    assert "claude_code" in agents, "what was read before is still read"
    rows = {row["agent"]: row for row in healthy.json("connect", "claude_code", "--off")}
    assert (rows["claude_code"]["status"], rows["codex"]["status"]) == ("off", "read")
    assert healthy.home.config.stat().st_mode & 0o777 == 0o600
    healthy.lerim("connect", "emacs", expect=2)
    healthy.lerim("connect", "codex", "/nowhere", expect=2)


@pytest.mark.parametrize(
    ("before", "fine"),
    [
        ("", True),
        ("[agents] # which\n\n[decay]\nenabled = true\n", True),
        ('[agents]\n"codex" = "/old" # old\nclaude_code = "/c"\n[decay]\n', True),
        ('agents = { codex = "/x" }\n', False),
        ('[agents.codex]\npath = "/x"\n', False),
        ('[agents]\ncodex = """\n[decay]\n"""\n', False),
        ("[agents\n", False),
    ],
)
def test_a_settings_file_is_changed_safely_or_not_at_all(tmp_path: Path, before: str, fine: bool) -> None:
    path = tmp_path / "config.toml"
    path.write_text(before, "utf-8")
    if not fine:
        with pytest.raises(ConfigError):
            set_agent(path, "codex", ['/a "b"\n'], enabled=True)
        assert path.read_text("utf-8") == before
        return
    set_agent(path, "codex", ['/a "b"\n'], enabled=True)
    settings = config.load({"LERIM_HOME": str(tmp_path)})
    assert settings.agents["codex"] == Agent('/a "b"\n', enabled=True)
    assert set(settings.agents) == {"codex", *(["claude_code"] if "/c" in before else [])}


def test_logs_shows_the_end_of_each_file(healthy: World) -> None:
    (healthy.home.logs / "worker.log").write_text("\n".join(f"line {n}" for n in range(100)) + "\n", "utf-8")
    (healthy.home.logs / "redis.log").write_text("ready\n", "utf-8")
    assert healthy.lerim("logs", "-n", "2").stdout == "redis: ready\nworker: line 98\nworker: line 99\n"
    assert healthy.json("logs", "worker", "-n", "1") == [{"log": "worker.log", "line": "line 99"}]
