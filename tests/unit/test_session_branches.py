"""What was taken back by going to an earlier point is gone, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerim_jobs.sessions.session import file_mark
from tests.session_lines import Claude, Codex, reading_of, turns_of, words_of


def test_a_rewind_takes_back_the_prompt_and_what_came_of_it(tmp_path: Path) -> None:
    file = Claude()
    file.user("Set up the cache.")
    asked = file.says("Which one?")
    file.user("Memcached.")
    file.calls("Bash", command="apt install memcached")
    file.result("failed", error=True)
    file.says("Set up.")
    file.at = asked
    file.user("Varnish.")
    file.says("Set up too.")
    texts = [turn.text for turn in turns_of(tmp_path, file)]
    assert texts == ["Set up the cache.", "Which one?", "Varnish.", "Set up too."]


def test_a_rewind_to_the_first_prompt(tmp_path: Path) -> None:
    file = Claude()
    file.user("Use Memcached.")
    file.says("Done.")
    file.at = None
    file.user("Use Varnish.")
    file.says("Done too.")
    assert [turn.text for turn in turns_of(tmp_path, file)] == ["Use Varnish.", "Done too."]


def test_a_rewind_twice_and_over_several_prompts(tmp_path: Path) -> None:
    file = Claude()
    file.user("One.")
    here = file.says("Yes?")
    for word in ("Two.", "Three."):
        file.user(word)
        file.says("Well.")
    for word in ("Four.", "Five."):
        file.at = here
        file.user(word)
        file.says("Well.")
    assert words_of(tmp_path, file) == ["One.", "Five."]


def test_parallel_calls_interrupted_prompts_and_notices_are_no_rewinds(tmp_path: Path) -> None:
    file = Claude()
    first = file.user("Look at both files.")
    one = file.calls("Read", "toolu_1", file="a")
    two = file.calls("Read", "toolu_2", file="b")
    file.at = one
    file.result("a is here", "toolu_1")
    file.at = two
    file.result("b is here", "toolu_2", "and the third, please")
    file.says("Both read.")
    file.user("Interrupt me.")
    file.user("[Request interrupted by user]")
    file.user("Go on then.")
    file.add("system", subtype="notice", content="x")
    file.at = first
    file.add("system", subtype="late notice", content="y")
    file.says("Late.")
    assert words_of(tmp_path, file) == ["Look at both files.", "and the third, please", "Interrupt me.", "Go on then."]


def test_compactions_resumed_sessions_and_subagents_are_no_rewinds(tmp_path: Path) -> None:
    file = Claude()
    file.user("First part.")
    last = file.says("Done.")
    file.at = None
    file.add("system", subtype="compact_boundary", logicalParentUuid=last)
    file.user("This session is being continued from a previous conversation. Digest.", isCompactSummary=True)
    file.user("Second part.")
    before = file.says("Done.")
    file.at = None
    file.user("You are a helper.", isSidechain=True)
    file.add(
        "assistant", message={"role": "assistant", "content": [{"type": "text", "text": "side"}]}, isSidechain=True
    )
    file.at = before
    file.user("Third part.")
    file.at = "00000000-0000-4000-8000-00000000dead"  # the record stands in another file
    file.user("Resumed part.")
    file.says("Done.")
    assert words_of(tmp_path, file) == ["First part.", "Second part.", "Third part.", "Resumed part."]


def test_records_without_links_are_no_branches(tmp_path: Path) -> None:
    file = Claude()
    for text in ("One.", "Two.", "Three."):
        file.at = None
        file.user(text)
        file.at = None
        file.says("Well.")
    assert words_of(tmp_path, file) == ["One.", "Two.", "Three."]


def test_a_record_written_twice_takes_nothing_back(tmp_path: Path) -> None:
    file = Claude()
    file.user("One.")
    file.says("Well.")
    file.user("Two.")
    file.says("Well.")
    file.lines += file.lines[:4]
    file.user("Three.")
    assert words_of(tmp_path, file) == ["One.", "Two.", "Three."]


def test_what_was_typed_meanwhile_goes_with_its_branch(tmp_path: Path) -> None:
    file = Claude()
    file.user("One.")
    here = file.says("Yes?")
    file.user("Two.")
    file.queued("enqueue", "and two and a half")
    file.queued("remove", "and two and a half")
    file.says("Well.")
    file.at = here
    file.user("Three.")
    assert words_of(tmp_path, file) == ["One.", "Three."]


@pytest.mark.parametrize("count", [1, 2])
def test_a_rollback_of_codex(tmp_path: Path, count: int) -> None:
    file = Codex()
    for text in ("One.", "Two.", "Three."):
        file.prompt(text)
        file.says("Well.")
    file.add("event_msg", type="thread_rolled_back", num_turns=count)
    file.prompt("Four.")
    assert words_of(tmp_path, file) == [*["One.", "Two."][: 3 - count], "Four."]


MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("prompt"), st.integers(0, 99)),
        st.tuples(st.just("back"), st.integers(0, 99)),
        st.tuples(st.sampled_from(("tools", "queue", "notice", "answer")), st.integers(0, 99)),
    ),
    max_size=14,
)


def session(moves: list[tuple[str, int]]) -> tuple[Claude, list[str]]:
    """A file in which somebody goes back now and then, and what then still stands, by a model of its own."""
    file, stands = Claude(), list[str]()
    points: list[tuple[str | None, list[str]]] = []

    def point() -> None:
        points.append((file.at, list(stands)))

    def prompt() -> None:
        stands.append(f"Prompt {len(file.lines)}.")
        file.user(stands[-1])
        file.says(f"Answer {len(file.lines)}.")

    prompt()
    for move, n in moves:
        if move == "prompt":
            point()
            prompt()
        elif move == "back" and points:
            at = n % len(points)
            file.at, stands[:] = points[at][0], points[at][1]
            del points[at:]
            point()
            prompt()
        elif move == "tools":
            one, two = file.calls("Read", f"a{n}", file="a"), file.calls("Read", f"b{n}", file="b")
            file.at = one
            file.result("no", f"a{n}", error=True)
            file.at = two
            file.result("yes", f"b{n}")
            file.says(f"Read {len(file.lines)}.")
        elif move == "queue":
            stands.append(f"Meanwhile {len(file.lines)}.")
            file.queued("enqueue", stands[-1])
            file.queued("remove", stands[-1])
            file.says("Seen.")
        elif move == "notice":
            file.add("system", content="x")
        elif move == "answer":
            stands.append(f"Choice {len(file.lines)}.")
            file.calls("AskUserQuestion", f"q{n}", questions=[{"question": "Which?", "options": []}])
            file.result("", f"q{n}", toolUseResult={"answers": {"Which?": stands[-1]}})
            file.says("Good.")
    return file, stands


@settings(max_examples=150, deadline=None)
@given(moves=MOVES)
def test_only_the_branch_that_stands_is_kept(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int]]
) -> None:
    file, stands = session(moves)
    assert words_of(tmp_path_factory.mktemp("b"), file) == stands


@settings(max_examples=100, deadline=None)
@given(moves=MOVES, cut=st.floats(0, 1))
def test_a_file_read_in_two_parts_gives_what_one_reading_gives(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, int]], cut: float
) -> None:
    file, stands = session([move for move in moves if move[0] != "back"])
    folder = tmp_path_factory.mktemp("b")
    all_lines: list[str] = file.lines
    file.lines = all_lines[: int(cut * len(all_lines))]
    turns: list[Any] = []
    first = reading_of(folder, file)
    file.lines = all_lines
    if first.indexed.offset < sum(len(line.encode()) + 1 for line in all_lines):
        turns = reading_of(folder, file, file_mark(first.indexed)).turns
    assert [turn.text for turn in [*first.turns, *turns] if turn.speaker == "user"] == stands
