"""Search finds what it found when its figures were written down, and the LoCoMo loader reads that file's structure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import recall
from lerim_jobs.errors import BadInput

REPOSITORY = Path(__file__).resolve().parents[2]


def test_recall_on_our_own_sessions_stays_what_it_was(tmp_path: Path) -> None:
    memories, turns = recall.labelled_memories(tmp_path), recall.labelled_turns()
    assert memories.questions == turns.questions == 62
    assert (memories.at[1] >= 0.75, memories.at[5] >= 0.93, memories.at[10] >= 0.95) == (True, True, True), memories
    assert (turns.at[1] >= 0.52, turns.at[5] >= 0.80, turns.at[10] >= 0.82) == (True, True, True), turns


def test_neighbouring_turns_are_what_finds_some_turns() -> None:
    assert recall.labelled_turns().at[10] > recall.labelled_turns(neighbours=0).at[10] + 0.02


def sample(number: int) -> dict[str, Any]:
    """As published: sessions by number, turns with ids, questions with the ids of their evidence."""
    return {
        "sample_id": f"conv-{number}",
        "conversation": {
            "speaker_a": "Ann",
            "speaker_b": "Ben",
            "session_10_date_time": "4:04 pm on 9 June, 2023",
            "session_10": [{"speaker": "Ben", "dia_id": "D10:1", "text": "The pottery class begins in July."}],
            "session_2_date_time": "1:56 pm on 8 May, 2023",
            "session_2": [
                {"speaker": "Ann", "dia_id": "D2:1", "text": "I adopted a puppy!"},
                {"speaker": "Ben", "dia_id": "D2:2", "text": "What is it called?", "img_url": ["x"]},
                {"speaker": "Ann", "dia_id": "D2:3", "text": "Look.", "blip_caption": "a collar that says Biscuit"},
            ],
        },
        "qa": [
            {"question": "When does the pottery class begin?", "answer": "July", "evidence": ["D10:1"], "category": 2},
            {"question": "Who has a collar saying Biscuit?", "evidence": ["D2:1; D2:3"], "category": 1},
            {"question": "What happened in May 2023?", "evidence": ["D2:1"], "category": 2},
            {"question": "Nothing to find?", "evidence": [], "category": 5},
            {"question": "A wrong reference?", "evidence": ["D99:1"], "category": 5},
        ],
    }


def test_the_locomo_loader_reads_turns_questions_and_evidence(tmp_path: Path) -> None:
    path = tmp_path / "locomo10.json"
    path.write_text(json.dumps([sample(0), sample(1)]))
    index, asked = recall.locomo(path)
    assert [sorted(one.right) for one in asked[:3]] == [["0/D10:1"], ["0/D2:1", "0/D2:3"], ["0/D2:1"]]
    assert (len(asked), {one.project_id for one in asked}) == (6, {"conversation 0", "conversation 1"})
    found = recall.recall(asked, recall.ids_by(index))
    # One of two evidence turns of the second question shares no word with it and is no neighbour of one that does.
    assert found.questions == 6
    assert found.at[5] == pytest.approx((1 + 0.5 + 1) / 3)
    only = [hit.memory_id for hit in index.search("puppy", project_ids=["conversation 1"], limit=9)]
    assert only == ["1/D2:1", "1/D2:2"]


def test_another_file_is_refused_with_its_name(tmp_path: Path) -> None:
    for text in ("[1]", "{", '[{"qa": []}]'):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(BadInput, match=r"other\.json"):
            recall.locomo(tmp_path / "other.json")


def test_the_command_prints_both_sets_and_says_what_was_not_measured(tmp_path: Path) -> None:
    (tmp_path / "locomo10.json").write_text(json.dumps([sample(0)]))
    base = {key: value for key, value in os.environ.items() if key != "LERIM_LOCOMO"}
    for extra, words in (({}, "not measured"), ({"LERIM_LOCOMO": str(tmp_path / "locomo10.json")}, "LoCoMo, evidence")):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.recall"],
            cwd=REPOSITORY,
            env=base | extra,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "own sessions, memories" in done.stdout
        assert "R@10" in done.stdout
        assert words in done.stdout
