"""Every utterance of people in a folder of real sessions, by a count apart from the readers: kept as the user's, or listed.

`LERIM_TEST_SESSIONS` names the folder, as for `test_real_sessions.py`. Without it nothing runs.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from lerim_jobs.sessions.discovery import Found
from lerim_jobs.sessions.reader import read
from lerim_jobs.sessions.transcript import Turn
from tests.claude_utterances import claude_utterances
from tests.codex_utterances import codex_utterances
from tests.utterances import Utterance, fold

FOLDER = Path(os.environ.get("LERIM_TEST_SESSIONS") or "/nonexistent")
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="LERIM_TEST_SESSIONS names no folder")
MARK = re.compile(r"\[redacted[^\]]*\]|\[picture\]|\[data\]")
"""What stands in a turn for a secret, a picture or a file."""


def files() -> list[tuple[str, Path]]:
    places = {"synthetic": "claude_code", "claude_code": "claude_code", "codex": "codex"}
    paths = sorted(FOLDER.rglob("*.jsonl"))
    return [(places[path.parent.name], path) for path in paths if path.parent.name in places]


def user_turns(agent: str, path: Path) -> tuple[list[Turn], str | None]:
    about = path.stat()
    found = Found(agent, str(path), about.st_size, about.st_mtime_ns, about.st_ino)
    reading = read(found, None, host="h", now_ms=int(time.time() * 1000) + 10**9, known=lambda *_: set())
    assert reading is not None
    return [turn for turn in reading.turns if turn.speaker == "user"], reading.indexed.skip_reason


def is_same(said: str, kept: str) -> bool:
    """Whether a turn holds these words, but for what stands for a secret or a picture."""
    said, kept = fold(said), fold(kept)
    if said == kept:
        return True
    parts = MARK.split(kept)
    return len(parts) > 1 and bool(re.fullmatch(".+?".join(map(re.escape, parts)), said, re.DOTALL))


def take(turns: list[Turn], said: str) -> bool:
    """Whether there is such a turn; it counts for no other utterance."""
    at = next((n for n, turn in enumerate(turns) if is_same(said, turn.text)), None)
    if at is not None:
        del turns[at]
    return at is not None


def test_every_utterance_is_kept_or_listed_and_nothing_else_is_the_users(capsys: pytest.CaptureFixture[str]) -> None:
    counts: Counter[str] = Counter()
    forms: Counter[str] = Counter()
    listed: Counter[str] = Counter()
    silent: Counter[str] = Counter()
    lost: list[str] = []
    foreign: list[str] = []
    for agent, path in files():
        said: list[Utterance] = (claude_utterances if agent == "claude_code" else codex_utterances)(path.read_bytes())
        turns, reason = user_turns(agent, path)
        if not turns:
            silent[reason or "nobody spoke"] += 1
        counts["files"] += 1
        listed.update(one.listed for one in said if one.listed)
        for one in said:
            if not one.listed:
                counts["said"] += 1
                forms[one.form] += 1
                if take(turns, one.text):
                    counts["kept"] += 1
                else:
                    lost.append(f"{path.name}: {one.form}: {one.text[:80]!r}")
        foreign += [f"{path.name}: {turn.form}: {turn.text[:80]!r}" for turn in turns]
    with capsys.disabled():
        print(
            f"\n{counts['files']} files: {counts['said']} utterances {dict(forms)}, {counts['kept']} kept, {len(lost)} lost; "
            f"listed: {dict(listed)}; kept as the user's though nobody said it: {len(foreign)}; "
            f"without words of people: {dict(silent)}"
        )
    assert counts["said"] > 0
    print("\n".join(["LOST", *lost, "FOREIGN", *foreign]))
    assert lost == []
    assert foreign == []
