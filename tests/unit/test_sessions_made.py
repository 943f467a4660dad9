"""Sessions of every form, as they are, cut, damaged and read in pieces: what people said is theirs, and nothing else is."""

from __future__ import annotations

import json
import os
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lerim_jobs.sessions.discovery import Found
from lerim_jobs.sessions.reader import Reading, read
from lerim_jobs.sessions.session import FileMark, file_mark
from lerim_jobs.sessions.transcript import Turn
from tests.claude_utterances import claude_utterances
from tests.codex_utterances import codex_utterances
from tests.made_sessions import CLAUDE_MOVES, CODEX_MOVES, FOREIGN, claude_session, codex_session, moves
from tests.session_lines import NOW_MS, Claude, Codex
from tests.utterances import fold

EXAMPLES = int(os.environ.get("LERIM_FUZZ_EXAMPLES") or 40)
often = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
Made = tuple[Claude | Codex, list[str]]
SESSIONS: st.SearchStrategy[Made] = st.one_of(
    moves(CLAUDE_MOVES).map(claude_session), moves(CODEX_MOVES).map(codex_session)
)


def next_part(path: Path, agent: str, mark: FileMark | None) -> Reading | None:
    about = path.stat()
    found = Found(agent, str(path), about.st_size, about.st_mtime_ns, about.st_ino)
    return read(found, mark, host="h", now_ms=NOW_MS, known=lambda *_: set())


def turns_in(folder: Path, data: bytes, agent: str) -> list[Turn]:
    path = folder / "made.jsonl"
    path.write_bytes(data)
    reading = next_part(path, agent, None)
    assert reading is not None
    return reading.turns


def bytes_of(file: Claude | Codex) -> bytes:
    return "".join(f"{line}\n" for line in file.lines).encode()


def said(turns: list[Turn]) -> list[str]:
    return [turn.text for turn in turns if turn.speaker == "user"]


def words(texts: list[str]) -> Counter[str]:
    return Counter(map(fold, texts))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize("name", CLAUDE_MOVES)
def test_each_form_of_claude_code_by_itself_and_twice(tmp_path: Path, name: str) -> None:
    for steps in ([(name, "yes")], [(name, "yes"), (name, "yes")], [(name, "yes"), ("prompt", "yes")]):
        file, expected = claude_session(steps)
        assert said(turns_in(tmp_path, bytes_of(file), "claude_code")) == expected


@pytest.mark.parametrize("name", CODEX_MOVES)
def test_each_form_of_codex_by_itself_and_twice(tmp_path: Path, name: str) -> None:
    for steps in ([(name, "yes")], [(name, "yes"), (name, "yes")], [(name, "yes"), ("item first", "yes")]):
        file, expected = codex_session(steps)
        assert said(turns_in(tmp_path, bytes_of(file), "codex")) == expected


@often
@given(SESSIONS)
def test_what_people_said_is_theirs_in_order_and_the_independent_count_agrees(
    tmp_path_factory: pytest.TempPathFactory, made: Made
) -> None:
    file, expected = made
    data = bytes_of(file)
    found = said(turns_in(tmp_path_factory.getbasetemp(), data, file.agent))
    assert found == expected
    counted = (claude_utterances if file.agent == "claude_code" else codex_utterances)(data)
    assert words([one.text for one in counted if not one.listed]) == words(expected)


@often
@given(SESSIONS, st.lists(st.floats(0, 1), max_size=6))
def test_pieces_of_any_size_give_what_one_reading_gives(
    tmp_path_factory: pytest.TempPathFactory, made: Made, cuts: list[float]
) -> None:
    """Cut anywhere, also within a line or a character; a quiet reader sees the cut line and again when it is whole."""
    file, _ = made
    data, folder = bytes_of(file), tmp_path_factory.getbasetemp()
    whole = turns_in(folder, data, file.agent)
    path, mark, turns = folder / "pieces.jsonl", None, list[Turn]()
    for end in sorted({*(int(cut * len(data)) for cut in cuts), len(data)}):
        path.write_bytes(data[:end])
        reading = next_part(path, file.agent, mark)
        if reading is not None:
            mark = file_mark(reading.indexed)
            turns += reading.turns
            assert not reading.withdrawn
            assert shown(turns) == shown(whole)[: len(turns)], f"up to byte {end}"
    assert shown(turns) == shown(whole)


def shown(turns: list[Turn]) -> list[tuple[object, ...]]:
    return [(turn.speaker, turn.form, turn.text, turn.answers, turn.key, turn.at_ms) for turn in turns]


DECIDES = {"type", "role", "isMeta", "isSidechain", "isCompactSummary", "origin", "kind", "commandMode", "name"}
"""Keys whose values alone say that a text is a program's: who changes them makes another text of it."""
DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]
STRANGE = st.sampled_from(
    [None, True, 0, -1, 10**40, 1.5e300, "", "x" * 70_000, [], {}, [None], {"a": {}}, DEEP, ["y"], [[]]]
)


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A session with strange values at some keys, lines that are cut, and bytes that are no UTF-8."""
    file, _ = draw(SESSIONS)
    lines = [json.loads(line) for line in file.lines]
    for _ in range(draw(st.integers(0, 5))):
        _put(draw, lines[draw(st.integers(0, len(lines) - 1))])
    data = bytearray("".join(f"{json.dumps(line)}\n" for line in lines).encode())
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["cut", "byte", "newline"])):
            case "cut":  # the rest of a line is gone
                del data[at : data.find(b"\n", at)]
            case "byte":  # at the beginning of a value, or within what a program says: not within the name of a tag
                strange = draw(st.sampled_from([b"\xff", b"\x00", b"\xed\xa0\x80", b"\xef\xbb\xbf"]))
                at = data.find(draw(st.sampled_from([b': "', b"OREI"])), at) + 3
                data[at:at] = strange
            case _:
                data[at:at] = b"\n"
    return file.agent, bytes(data)


def _put(draw: st.DrawFn, record: dict[str, Any]) -> None:
    """A strange value at any key of the record, however deep."""
    places: list[tuple[Any, Any]] = []
    todo: list[Any] = [record]
    while todo:
        at = todo.pop()
        keys = [key for key in at if key not in DECIDES] if isinstance(at, dict) else range(len(at))
        places += [(at, key) for key in keys]
        todo += [at[key] for key in keys if isinstance(at[key], dict | list)]
    at, key = draw(st.sampled_from(places))
    at[key] = deepcopy(draw(STRANGE))


@settings(often, max_examples=3 * EXAMPLES)
@given(damaged())
def test_no_damage_makes_a_reader_raise_or_a_programs_words_the_users(
    tmp_path_factory: pytest.TempPathFactory, given_: tuple[str, bytes]
) -> None:
    agent, data = given_
    for turn in turns_in(tmp_path_factory.getbasetemp(), data, agent):
        turn.text.encode()
        if turn.speaker == "user":
            assert FOREIGN not in turn.text
