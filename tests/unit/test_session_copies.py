"""Sessions that begin alike are two; what one copied from another counts once, whichever is read first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.session_lines import Claude, Codex
from tests.unit.test_sessions_scan import Machine

OPENING = "Read the guide, then wait for my first task, please."
LONG = "I have read the guide. It asks for small commits, for one test a change, and for a word before anything is deleted."


def meta(session_id: str, **fields: str) -> str:
    return json.dumps({"type": "session_meta", "payload": {"id": session_id, "cwd": "/srv/shop", **fields}})


def talk(*says: str, answer: str = "Done.") -> list[str]:
    file = Codex()
    for text in says:
        file.prompt(text)
        file.says(answer)
    return file.lines[1:]


def prompts(machine: Machine, agent_says: str = "Done.") -> list[list[str]]:
    return sorted([text for text in session if text not in (agent_says, LONG)] for session in machine.said())


@pytest.mark.parametrize("together", [True, False])
def test_two_sessions_of_codex_that_begin_alike_are_two(tmp_path: Path, together: bool) -> None:
    machine = Machine(tmp_path, "codex")
    machine.write("one", meta("one"), *talk(OPENING, "Rename it.", "yes, do that"))
    if not together:
        machine.scan()
    machine.write("two", meta("two"), *talk(OPENING, "Delete it.", "yes, do that"))
    machine.scan()
    assert prompts(machine) == [[OPENING, "Delete it.", "yes, do that"], [OPENING, "Rename it.", "yes, do that"]]


def test_a_long_opening_alone_is_no_copy(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "codex")
    for name in ("one", "two"):
        machine.write(name, meta(name), *talk(OPENING * 20, "yes"))
    machine.scan()
    assert prompts(machine) == [[OPENING * 20, "yes"]] * 2


@pytest.mark.parametrize("order", ["ab", "ba"])
@pytest.mark.parametrize("named", ["forked_from_id", "its meta", "nothing"])
def test_a_fork_of_codex_adds_what_is_new(tmp_path: Path, order: str, named: str) -> None:
    """Also the same word, said once more in each of them; where nothing names the source, a long answer tells the copy."""
    machine = Machine(tmp_path, "codex")
    shared = talk(OPENING, "Go on.", answer=LONG if named == "nothing" else "Done.")
    about = {"forked_from_id": "source"} if named == "forked_from_id" else {}
    repeated = [meta("source")] if named == "its meta" else []
    files = {
        "source": [meta("source"), *shared, *talk("Keep it.", "yes")],
        "fork": [meta("fork", **about), *repeated, *shared, *talk("Drop it.", "yes")],
    }
    for n, name in enumerate(files if order == "ab" else reversed(files)):
        machine.write(f"{n}-{name}", *files[name])
        machine.scan()
    said = prompts(machine)
    first, second = ("Keep it.", "Drop it.") if order == "ab" else ("Drop it.", "Keep it.")
    assert sorted(said, key=len) == [[second, "yes"], [OPENING, "Go on.", first, "yes"]]


def test_a_word_that_is_said_right_behind_the_copy_is_said_again(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "codex")
    machine.write("0", meta("source"), *talk("Shall we?", "yes"))
    machine.write("1", meta("fork", forked_from_id="source"), *talk("Shall we?"), *talk("no", "yes"))
    machine.scan()
    assert prompts(machine) == [["Shall we?", "yes"], ["no", "yes"]]


def test_a_fork_of_a_fork(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "codex")
    machine.write("0", meta("a"), *talk("One."))
    machine.write("1", meta("b", forked_from_id="a"), meta("a"), *talk("One.", "Two."))
    machine.write("2", meta("c", forked_from_id="b"), meta("b"), meta("a"), *talk("One.", "Two.", "Three."))
    machine.scan()
    assert sorted(text for session in prompts(machine) for text in session) == ["One.", "Three.", "Two."]


def test_the_same_session_in_two_places_is_one(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "codex")
    for name in ("live", "archived"):
        machine.write(name, meta("one"), *talk(OPENING, "yes"))
    counts = machine.scan()
    assert prompts(machine) == [[OPENING, "yes"]]
    assert counts["skipped_reasons"] == {"read before in another file": 1}


def test_two_sessions_of_claude_code_that_begin_alike_are_two_and_a_branch_adds_what_is_new(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    files = {name: Claude(name) for name in ("one", "two")}
    for file in files.values():
        for text in (OPENING, "yes"):
            file.user(text)
            file.says(LONG)
    branch = [line.replace('"sessionId": "one"', '"sessionId": "branch"') for line in files["one"].lines]
    files["one"].user("yes")
    for name, file in files.items():
        machine.write(name, *file.lines)
    more = Claude("branch")
    more.lines = [""] * 50
    more.user("yes")
    machine.write("branch", *branch, *branch, more.lines[-1])
    machine.scan()
    assert prompts(machine) == [[OPENING, "yes"], [OPENING, "yes", "yes"], ["yes"]]
