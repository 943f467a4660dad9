"""Session files that mean harm, or are simply broken: nothing raises, hangs, escapes or grows without bound."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lerim_jobs.sessions import records
from lerim_jobs.sessions.discovery import Found, scan
from lerim_jobs.sessions.projects import match
from lerim_jobs.sessions.reader import Reading, is_unchanged, read
from lerim_jobs.sessions.session import FileMark, file_mark
from tests.transcripts import claude_lines

NOW_MS = 10_000_000_000_000
AGENTS = ("claude_code", "codex")
DEEP = b"[" * 100_000 + b"]" * 100_000
SURROGATE = b'"\\ud800"'

HOSTILE = {
    "deep value": b'{"type":"user","x":' + DEEP + b"}",
    "deep content": b'{"type":"user","message":{"content":' + DEEP + b"}}",
    "deep result": b'{"type":"user","message":{"content":[{"type":"tool_result","is_error":true,"content":'
    + DEEP
    + b"}]}}",
    "deep payload": b'{"type":"response_item","payload":{"type":"message","role":"user","content":' + DEEP + b"}}",
    "long integer": b'{"type":"user","cwd":' + b"9" * 5000 + b"}",
    "large integer": b'{"type":"user","x":' + SURROGATE + b',"timestamp":' + b"9" * 30 + b"}",
    "infinite": b'{"type":"user","timestamp":1e999}',
    "before time": b'{"type":"user","timestamp":"0001-01-01T00:00:00+14:00"}',
    "after time": b'{"type":"user","timestamp":"9999-12-31T23:59:59-14:00"}',
    "odd source": b'{"type":"session_meta","payload":{"id":[1],"source":{"subagent":{"thread_spawn":[1]}},"git":3}}',
    "many rollbacks": b'{"type":"event_msg","payload":{"type":"thread_rolled_back","num_turns":999999999999999999}}',
    "negative rollback": b'{"type":"event_msg","payload":{"type":"thread_rolled_back","num_turns":-5}}',
    "numbers for names": b'{"type":7,"uuid":1,"sessionId":[],"message":{"content":[7,null,{"type":"text","text":5}]}}',
    "NUL and escapes": b'{"type":"user","uuid":"u","cwd":"/a\\u0000b","message":{"content":"a\\u0000\\u001b[31mred\\u202e"}}',
}


def nothing(session_id: str, began: str, keys: set[str]) -> set[str]:
    return set()


def reading_of(folder: Path, data: bytes, agent: str) -> Reading:
    path = folder / "session.jsonl"
    path.write_bytes(data)
    about = path.stat()
    found = Found(agent, str(path), about.st_size, about.st_mtime_ns, about.st_ino)
    reading = read(found, None, host="h", now_ms=NOW_MS, known=nothing)
    assert reading is not None
    return reading


@pytest.mark.parametrize("agent", AGENTS)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_line_costs_itself_only(tmp_path: Path, name: str, agent: str) -> None:
    good = claude_lines("s", "/srv/shop", ["Use tabs."])[0].encode()
    prompt = b'{"type":"event_msg","payload":{"type":"user_message","message":"Use tabs."}}'
    data = b"\n".join([HOSTILE[name], good if agent == "claude_code" else prompt, b""])
    reading = reading_of(tmp_path, data, agent)
    assert reading.indexed.offset == len(data)
    if reading.indexed.skip_reason != "a subagent's file":
        assert "Use tabs." in [turn.text for turn in reading.turns]


REAL = [
    line.encode() for line in claude_lines("s", "/srv/shop", ["We decided to use tabs.", "The fix was a lock."])
] + [
    json.dumps(record).encode()
    for record in (
        {"type": "session_meta", "payload": {"id": "x", "cwd": "/srv", "git": {"branch": "main"}, "source": "cli"}},
        {"type": "response_item", "payload": {"type": "message", "role": "user", "content": [{"text": "Hello"}]}},
        {"type": "response_item", "payload": {"type": "function_call_output", "output": "exit code: 1"}},
        {"type": "event_msg", "payload": {"type": "thread_rolled_back", "num_turns": 1}},
        {
            "type": "user",
            "message": {"content": [{"type": "tool_result", "is_error": True, "content": [{"text": "no"}]}]},
        },
        {"type": "worktree-state", "worktreeSession": {"originalCwd": "/srv/shop"}},
    )
]
PARTS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b",",
    b":",
    b"\n",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"\x00",
    b"null",
    b"1e999",
    b"-1",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Real-shaped lines, cut, spliced and damaged."""
    data = bytearray(b"\n".join(draw(st.lists(st.sampled_from(REAL), min_size=1, max_size=5))) + b"\n")
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 40)))
        data[at:end] = draw(st.one_of(st.sampled_from(PARTS), st.binary(max_size=8)))
    return bytes(data)


@settings(max_examples=int(os.environ.get("LERIM_FUZZ_EXAMPLES") or 150), deadline=None)
@given(st.one_of(mutated(), st.binary(max_size=200)), st.sampled_from(AGENTS))
def test_no_bytes_make_a_reader_raise_or_say_more_than_it_may(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, agent: str
) -> None:
    reading = reading_of(tmp_path_factory.getbasetemp(), data, agent)
    assert reading.indexed.offset <= len(data)
    assert 0 < len(reading.indexed.session_id) <= 200
    assert len(reading.indexed.dropped) <= 52
    for text in (
        reading.indexed.session_id,
        reading.indexed.title or "",
        reading.indexed.branch or "",
        reading.indexed.cwd or "",
    ):
        assert text.isprintable() or agent == "codex"
        assert "\x00" not in text
    for turn in reading.turns:
        assert turn.text.encode()  # no lone surrogates
        assert not set(turn.text) & set("\x00\x1b\u202e")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated(), st.integers(0, 400), st.sampled_from(AGENTS))
def test_damage_reads_alike_in_one_go_and_in_two(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int, agent: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    cut = data.rfind(b"\n", 0, cut) + 1
    first, whole = reading_of(folder, data[:cut], agent), reading_of(folder, data, agent)
    path = folder / "session.jsonl"
    about = path.stat()
    mark = msgspec.structs.replace(file_mark(first.indexed), size_bytes=cut)
    found = Found(agent, str(path), about.st_size, about.st_mtime_ns, about.st_ino)
    second = read(found, mark, host="h", now_ms=NOW_MS, known=nothing)
    assert second is not None
    if b"rolled_back" not in data:  # what a later rollback cancels may be stored already
        # As sets: a record that stands twice is kept once, and twice when the file grew between.
        assert {turn.text for turn in (*first.turns, *second.turns)} == {turn.text for turn in whole.turns}


def test_an_overlong_line_is_passed_over_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 200_000)
    good = "\n".join(claude_lines("s", "/srv", ["Use tabs."])).encode() + b"\n"
    data = b'{"x":"' + b"a" * 300_000 + b'"}\n' + good
    reading = reading_of(tmp_path, data, "claude_code")
    assert (reading.indexed.offset, reading.indexed.dropped["oversized line"]) == (len(data), 1)
    assert "Use tabs." in [turn.text for turn in reading.turns]
    # Without its end it waits: the offset stays in front of it.
    assert reading_of(tmp_path, good + b"a" * 300_000, "claude_code").indexed.offset == len(good)


def test_many_rollbacks_of_nothing_take_no_time(tmp_path: Path) -> None:
    said = (
        b'{"type":"response_item","payload":{"type":"message","role":"assistant","content":[{"text":"a"}]}}\n' * 20_000
    )
    begin = time.process_time()
    reading_of(
        tmp_path, said + HOSTILE["many rollbacks"] + b"\n" + (HOSTILE["many rollbacks"] + b"\n") * 5_000, "codex"
    )
    assert time.process_time() - begin < 10


def test_names_and_reasons_are_short_printable_and_few(tmp_path: Path) -> None:
    lines = [
        {"type": "user", "sessionId": "../../etc/\x1b[2J\u202e" + "x" * 5000, "gitBranch": "a\x00b" * 5000},
        {"type": "custom-title", "customTitle": "\x1b]0;owned\x07 " + "T" * 5000},
        *({"type": f"kind {n} \x07" if n % 2 else f"kind-{n}"} for n in range(500)),
    ]
    reading = reading_of(tmp_path, "\n".join(map(json.dumps, lines)).encode() + b"\n", "claude_code")
    assert len(reading.indexed.session_id) <= 200
    assert reading.indexed.title
    for text in (
        reading.indexed.session_id,
        reading.indexed.title,
        reading.indexed.branch or "",
        *reading.indexed.dropped,
    ):
        assert text.isprintable()
        assert len(text) <= 200
    assert len(reading.indexed.dropped) <= 51
    assert sum(reading.indexed.dropped.values()) == len(lines)


def test_a_secret_at_the_edge_of_what_is_kept_leaves_no_half(tmp_path: Path) -> None:
    secret = "sk-" + "A1b2" * 12
    for pad in range(100, 170, 7):
        block = {"type": "tool_use", "name": "Bash", "input": {"command": "x" * pad + f" {secret}"}}
        line = json.dumps({"type": "assistant", "uuid": "u", "message": {"content": [block]}}).encode() + b"\n"
        text = reading_of(tmp_path, line, "claude_code").turns[0].text
        assert len(text) <= 170
        assert secret[:6] not in text


def test_a_huge_file_is_read_in_parts(tmp_path: Path) -> None:
    says = [f"This is sentence number {n}." for n in range(30)]
    data = "\n".join(claude_lines("s", "/srv", says)).encode() + b"\n"
    path = tmp_path / "session.jsonl"
    path.write_bytes(data)
    about = path.stat()
    found = Found("claude_code", str(path), about.st_size, about.st_mtime_ns, about.st_ino)
    for limit in ({"max_chars": 100}, {"max_bytes": 1000}):
        texts: list[str] = []
        mark: FileMark | None = None
        parts = 0
        while reading := read(found, mark, host="h", now_ms=NOW_MS, known=nothing, **limit):
            texts += [turn.text for turn in reading.turns]
            mark = file_mark(reading.indexed)
            assert reading.more == (mark.offset < len(data))
            assert is_unchanged(found, mark) == (not reading.more)
            parts += 1
        assert [text for text in texts if text.startswith("This")] == says
        assert parts > 5


def test_links_are_followed_neither_when_found_nor_when_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside.jsonl"
    outside.write_text("\n".join(claude_lines("s", "/srv", ["Private."])) + "\n", "utf-8")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "two.jsonl").write_bytes(outside.read_bytes())
    root = tmp_path / "projects"
    root.mkdir()
    (root / "file.jsonl").symlink_to(outside)
    (root / "folder").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "pipe.jsonl")
    found, unread = scan({"claude_code": [root]})
    assert found == []
    assert sorted(one.reason for one in unread) == ["a symbolic link", "not a file (p)"]
    # Swapped in after the file was found.
    for swapped in ("file.jsonl", "pipe.jsonl"):
        about = outside.stat()
        planted = Found("claude_code", str(root / swapped), about.st_size, about.st_mtime_ns, about.st_ino)
        try:
            reading = read(planted, None, host="h", now_ms=NOW_MS, known=nothing)
        except OSError:
            continue
        assert reading is not None
        assert reading.turns == []


@pytest.mark.parametrize("cwd", [".", "..", "shop", "/srv/shop/../../etc", "/srv/shopping", "/srv/shop\x00", "", "~"])
def test_no_working_directory_cheats_its_way_into_a_project(cwd: str) -> None:
    projects: dict[str, Any] = {"p": "/srv/shop"}
    assert match(cwd, projects) is None
    assert match("/srv/shop/./deep/..", projects) == "p"
