"""Real sessions through a whole sync with the offline model. `LERIM_TEST_SESSIONS` names the folder, see its sibling."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest

from lerim_jobs.log.sqlite import SqliteStore
from lerim_jobs.sessions import transcript
from lerim_jobs.sessions.transcript import find_quote
from lerim_jobs.views.memories import all_memories
from lerim_jobs.views.projection import fold_all
from lerim_jobs.views.sessions import SESSIONS
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
    begin = time.monotonic()
    first = offline.sync("--max-sessions", "1000", timeout_s=300)
    spent = time.monotonic() - begin
    counts = first["sessions"]
    files = sum(1 for folder in folders.values() for _ in folder.rglob("*.jsonl"))
    assert counts["found"] == files == counts["indexed"] + counts["unchanged"] + counts["skipped"]
    assert sum(first["skipped_reasons"].values()) == counts["skipped"]
    assert (first["status"], counts["quarantined"]) == ("succeeded", 0)
    quotes = check_quotes(offline)
    whole_trace(offline, first["job_id"])
    second = offline.sync("--max-sessions", "1000", timeout_s=120)
    assert (second["memories"]["added"], second["model_calls"], second["sessions"]["indexed"]) == (0, 0, 0)
    with capsys.disabled():
        print(
            f"\n{files} files: {counts['indexed']} sessions in {first['windows']} windows, {first['candidates']} candidates, "
            f"{first['memories']['added']} memories, {quotes} quotes checked, {spent:.1f} s; second run added nothing"
        )


def check_quotes(world: World) -> int:
    """Every kept quote stands in the stored transcript of its session."""
    store = SqliteStore(world.home.log)
    sessions = {one.session_id: one for one in fold_all(store, SESSIONS).values()}
    checked = 0
    for memory in all_memories(store).values():
        for quote in memory.quotes:
            turns = [
                turn
                for part in sessions[quote.session_id].segments
                for turn in transcript.decode(store.blob(part.blob)).turns
            ]
            assert find_quote(turns, quote.text), memory
            checked += 1
    store.close()
    return checked
