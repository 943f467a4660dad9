"""Real sessions through a whole sync with the offline model. `LERIM_TEST_SESSIONS` names the folder, see its sibling."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest

from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.memory.checks.evidence import unsupported
from tests.e2e.traces import whole_trace
from tests.e2e.world import World

FOLDER = Path(os.environ.get("LERIM_TEST_SESSIONS") or "/nonexistent")
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="LERIM_TEST_SESSIONS names no folder")
_CWD = re.compile(rb'"cwd": ?"(?:[^"\\]|\\.)*"')


def test_real_sessions_sync_twice_with_the_offline_model(offline: World, capsys: pytest.CaptureFixture[str]) -> None:
    cwd = b'"cwd":"%s"' % str(offline.project).encode()
    folders = {"claude_code": offline.claude / "projects" / "x", "codex": offline.codex / "sessions"}
    for agent, folder in folders.items():
        shutil.copytree(FOLDER / "share" / agent, folder)
        for path in folder.glob("*.jsonl"):
            path.write_bytes(_CWD.sub(lambda _: cwd, path.read_bytes()))
    offline.lerim("project", "add", str(offline.project))
    # One worker for all runs: starting one for each would cost more than the syncs.
    with offline.workers(1, slots=8):
        _check(offline, sum(1 for folder in folders.values() for _ in folder.rglob("*.jsonl")), capsys)


def _check(offline: World, files: int, capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.monotonic()
    first = offline.sync("--max-sessions", "1000", timeout_s=300)
    spent = time.monotonic() - begin
    counts = first["sessions"]
    assert counts["found"] == files == counts["indexed"] + counts["unchanged"] + counts["skipped"]
    assert sum(first["skipped_reasons"].values()) == counts["skipped"]
    assert (first["status"], counts["quarantined"]) == ("succeeded", 0)
    quotes = check_quotes(offline)
    whole_trace(offline, first["job_id"])
    for _ in range(2):
        again = offline.sync("--max-sessions", "1000", timeout_s=120)
        assert (again["memories"]["added"], again["model_calls"], again["sessions"]["indexed"]) == (0, 0, 0)
    forced = offline.sync("--max-sessions", "1000", "--force", timeout_s=300)
    assert [forced["memories"][name] for name in ("added", "merged", "archived")] == [0, 0, 0]
    assert check_quotes(offline) == quotes
    with capsys.disabled():
        print(
            f"\n{files} files: {counts['indexed']} sessions in {first['windows']} windows, {first['candidates']} candidates, "
            f"{first['memories']['added']} memories, {quotes} proved, {spent:.1f} s; three more runs, one forced, added nothing"
        )


def check_quotes(world: World) -> int:
    """Every active memory has its proof in the stored transcripts; returns how many were checked."""
    store = SqliteStore(world.home.log)
    checked, without = unsupported(store)
    store.close()
    assert without == []
    return checked
