"""Every session of a folder through reading, redaction, compaction and windows.

`LERIM_TEST_SESSIONS` names the folder: `share/<agent>/` and `synthetic/` with a `MANIFEST.tsv`. Without it nothing runs.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from lerim_jobs.sessions.agents import AGENTS
from lerim_jobs.sessions.discovery import Found
from lerim_jobs.sessions.reader import Reading, read
from lerim_jobs.sessions.secrets import redact
from lerim_jobs.sessions.session import file_mark
from lerim_jobs.sessions.windows import cut

FOLDER = Path(os.environ.get("LERIM_TEST_SESSIONS") or "/nonexistent")
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="LERIM_TEST_SESSIONS names no folder")


def agent_of(path: Path) -> str:
    return "claude_code" if path.parent.name == "synthetic" else path.parent.name


def nothing(session_id: str, began: str, keys: set[str]) -> set[str]:
    return set()


def first_reading(path: Path) -> tuple[Found, Reading | None]:
    about = path.stat()
    found = Found(agent_of(path), str(path), about.st_size, about.st_mtime_ns, about.st_ino)
    return found, read(found, None, host="h", now_ms=int(time.time() * 1000), known=nothing)


def test_every_file_is_read_or_skipped_with_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    begin = time.process_time()
    for path in sorted(one for one in FOLDER.rglob("*") if one.is_file() and one.parent != FOLDER):
        counts["files"] += 1
        counts["bytes"] += path.stat().st_size
        if agent_of(path) not in AGENTS or path.suffix != ".jsonl":
            reasons[f"no reader for {agent_of(path)}"] += 1
            continue
        found, reading = first_reading(path)
        assert reading is not None
        if reading.indexed.skip_reason:
            reasons[reading.indexed.skip_reason] += 1
        counts.update(read=1, kept=reading.indexed.kept_bytes, sessions=bool(reading.turns), turns=len(reading.turns))
        check(found, reading)
    spent = time.process_time() - begin
    with capsys.disabled():
        print(
            f"\n{counts['files']} files ({counts['bytes']} bytes): {counts['read']} read, {counts['sessions']} sessions, "
            f"{counts['turns']} turns, {counts['kept']} bytes kept, {spent:.2f} s CPU; {dict(reasons)}"
        )
    assert counts["files"] == counts["sessions"] + sum(reasons.values())


def check(found: Found, reading: Reading) -> None:
    """What must hold of any session."""
    keys = [turn.key for turn in reading.turns]
    assert len(keys) == len(set(keys)), found.path
    assert [turn.n for turn in reading.turns] == list(range(len(keys)))
    for turn in reading.turns:
        assert redact(turn.text)[1] == 0, found.path
        turn.text.encode()
    for size in (300, 32_000):
        windows = cut(reading.turns, max_tokens=size, overlap_tokens=20)
        assert {n for window in windows for n in range(window.turn_from, window.turn_to)} == set(range(len(keys)))
    mark, now_ms = file_mark(reading.indexed), int(time.time() * 1000)
    again = read(found, mark, host="h", now_ms=now_ms, known=lambda session, began, found: found & set(keys))
    assert again is None or again.turns == [], found.path


@pytest.mark.parametrize(
    ("name", "undecodable", "behind"),
    [
        ("truncated_last_line", 1, 41),
        ("split_mid_utf8", 1, 55),
        ("no_trailing_newline", 0, 82),
        ("crlf_bom", 0, 0),
        ("invalid_utf8", 0, 0),
        ("nul_block", 0, 0),
        ("two_objects_one_line", 0, 0),
        ("lone_surrogate", 0, 0),
    ],
)
def test_damaged_files_give_what_is_left_of_them(name: str, undecodable: int, behind: int) -> None:
    path = FOLDER / "synthetic" / f"{name}.jsonl"
    found, reading = first_reading(path)
    assert reading is not None
    assert reading.indexed.dropped.get("undecodable", 0) == undecodable
    assert found.size_bytes - reading.indexed.offset == behind
    assert reading.indexed.human_prompts >= 1
