"""Reading sessions: whole, growing, damaged, copied; the same turns whatever way they come."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerim_jobs.sessions.discovery import Found
from lerim_jobs.sessions.reader import Reading, read
from lerim_jobs.sessions.session import FileMark, file_mark
from lerim_jobs.sessions.transcript import Turn

NOW_MS = 10_000_000_000_000
SESSION = "11111111-0000-4000-8000-000000000001"


def claude(kind: str, content: Any, n: int = 0, **fields: Any) -> str:
    record = {
        "type": kind,
        "uuid": f"u{n}",
        "sessionId": SESSION,
        "cwd": "/srv/shop",
        "timestamp": f"2026-11-01T10:00:{n % 60:02d}Z",
        "message": {"role": kind, "content": content},
    }
    return json.dumps({**record, **fields}, ensure_ascii=False)


def event(kind: str, payload: dict[str, Any], n: int = 0) -> str:
    return json.dumps({"timestamp": f"2026-11-01T10:00:{n:02d}Z", "type": kind, "payload": payload})


def prompt(text: str, n: int = 0) -> str:
    return event("event_msg", {"type": "user_message", "message": text}, n)


def item(role: str, text: str, n: int = 0) -> str:
    kind = "input_text" if role == "user" else "output_text"
    return event("response_item", {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}, n)


def found(path: Path, agent: str = "claude_code") -> Found:
    about = path.stat()
    return Found(agent, str(path), about.st_size, about.st_mtime_ns, about.st_ino)


def nothing(session_id: str, began: str, keys: set[str]) -> set[str]:
    return set()


def read_bytes(tmp_path: Path, data: bytes, agent: str = "claude_code", now_ms: int = NOW_MS) -> Reading:
    path = tmp_path / "session.jsonl"
    path.write_bytes(data)
    reading = read(found(path, agent), None, host="h", now_ms=now_ms, known=nothing)
    assert reading is not None
    return reading


def read_lines(tmp_path: Path, *lines: str, agent: str = "claude_code") -> Reading:
    return read_bytes(tmp_path, ("\n".join(lines) + "\n").encode(), agent)


def said(reading: Reading) -> list[tuple[str, str]]:
    return [(turn.speaker, turn.text) for turn in reading.turns]


# --- Claude Code -----------------------------------------------------------------------------------
def test_prompts_answers_calls_and_errors_are_kept_in_short(tmp_path: Path) -> None:
    reading = read_lines(
        tmp_path,
        claude("user", "Fix the cart.", 1),
        claude(
            "assistant", [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "Ok."}], 2
        ),
        claude("assistant", [{"type": "tool_use", "name": "Bash", "input": {"command": "x" * 500}}], 3),
        claude(
            "user",
            [{"type": "tool_result", "content": "all good", "is_error": False}],
            4,
            toolUseResult={"stdout": "a"},
        ),
        claude(
            "user", [{"type": "tool_result", "content": [{"type": "text", "text": "E" * 900}], "is_error": True}], 5
        ),
    )
    assert [speaker for speaker, _ in said(reading)] == ["user", "assistant", "tool", "tool"]
    assert said(reading)[2][1].startswith('Bash: {"command"')
    assert len(said(reading)[2][1]) < 180
    assert said(reading)[3][1] == "error: " + "E" * 300
    assert (reading.indexed.human_prompts, reading.indexed.cwd, reading.indexed.session_id) == (1, "/srv/shop", SESSION)


@pytest.mark.parametrize(
    "line",
    [
        claude("user", "<command-name>/clear</command-name>"),
        claude("user", "Caveat: the messages below"),
        claude("user", "[Request interrupted by user]"),
        claude("user", "This session is being continued from a previous conversation that ran out"),
        claude("user", "<system-reminder>be nice</system-reminder>"),
        claude("user", "typed by nobody", isMeta=True),
        claude("user", "a digest of it all", isCompactSummary=True),
        claude("user", "do this, subagent", isSidechain=True),
        claude("assistant", [{"type": "text", "text": "API Error"}], isApiErrorMessage=True),
        claude("user", [{"type": "tool_result", "content": "x"}, {"type": "text", "text": "<system-reminder>"}]),
    ],
)
def test_what_nobody_typed_is_dropped_and_counted(tmp_path: Path, line: str) -> None:
    reading = read_lines(tmp_path, claude("user", "A real prompt.", 1), line)
    assert said(reading) == [("user", "A real prompt.")]
    assert sum(reading.indexed.dropped.values()) >= 1


def test_a_synthetic_api_error_is_no_answer(tmp_path: Path) -> None:
    broken = json.loads(claude("assistant", [{"type": "text", "text": "overloaded"}], 2))
    broken["message"]["model"] = "<synthetic>"
    reading = read_lines(tmp_path, claude("user", "Hello there.", 1), json.dumps(broken))
    assert said(reading) == [("user", "Hello there.")]


def test_titles_branches_and_worktrees_are_noted(tmp_path: Path) -> None:
    reading = read_lines(
        tmp_path,
        json.dumps({"type": "summary", "summary": "Old title", "leafUuid": "x"}),
        json.dumps({"type": "worktree-state", "worktreeSession": {"originalCwd": "/srv/shop"}}),
        claude("user", "Hello there.", 1, cwd="/tmp/wt/shop", gitBranch="feature"),
        json.dumps({"type": "ai-title", "aiTitle": "New title"}),
    )
    assert (reading.indexed.title, reading.indexed.branch, reading.indexed.cwd) == ("New title", "feature", "/srv/shop")


def test_a_subagents_file_belongs_to_its_parent(tmp_path: Path) -> None:
    reading = read_lines(tmp_path, claude("user", "You are a helper.", 1, isSidechain=True, agentId="a1"))
    assert (reading.turns, reading.indexed.session_id, reading.indexed.human_prompts) == ([], SESSION, 0)
    assert reading.indexed.skip_reason == "a subagent's file"


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\x00" * 50, b"not json\n", b"[1]\n3\n"])
def test_files_without_anything_are_skipped_with_a_reason(tmp_path: Path, data: bytes) -> None:
    reading = read_bytes(tmp_path, data)
    assert reading.turns == []
    assert reading.indexed.skip_reason


# --- damaged bytes ---------------------------------------------------------------------------------
def test_damaged_lines_lose_nothing_else(tmp_path: Path) -> None:
    one, two, three = (claude("user", f"Prompt number {n}.", n) for n in (1, 2, 3))
    surrogate = claude("user", "lone X here", 4).replace("X", "\\ud83d")
    data = b"\xef\xbb\xbf" + one.encode() + b"\r\n" + b"\x00" * 40 + b"\n" + (two + three).encode() + b"\n"
    data += b'{"type": "user", "broken\n' + surrogate.encode() + b"\n"
    data += claude("user", "bytes Y", 5).encode().replace(b"Y", b"\xff\xfe") + b"\n" + b'["not an object"]\n'
    reading = read_bytes(tmp_path, data)
    texts = [text for _, text in said(reading)]
    assert texts == ["Prompt number 1.", "Prompt number 2.", "Prompt number 3.", "lone ? here", "bytes \ufffd\ufffd"]
    assert (reading.indexed.dropped["undecodable"], reading.indexed.dropped["not an object"]) == (1, 1)


def test_a_message_that_is_a_string_and_blocks_of_odd_types_are_read(tmp_path: Path) -> None:
    odd = json.dumps({"type": "user", "uuid": "u9", "sessionId": SESSION, "message": "plain words"})
    blocks = claude("assistant", [{"type": "text", "text": 5}, "just text", {"type": 3}, None], 2)
    reading = read_lines(tmp_path, odd, blocks, claude("user", None, 3), claude("user", {"a": 1}, 4))
    assert said(reading) == [("user", "plain words"), ("assistant", "just text")]


def test_a_line_of_two_megabytes_is_read(tmp_path: Path) -> None:
    image = {"type": "image", "source": {"data": "A" * 2_000_000}}
    reading = read_lines(tmp_path, claude("user", [image, {"type": "text", "text": "See the picture."}], 1))
    assert said(reading) == [("user", "See the picture.")]


def test_secrets_are_gone_before_anything_leaves_the_reader(tmp_path: Path) -> None:
    key = "sk-" + "a1B2" * 10
    reading = read_lines(
        tmp_path,
        claude("user", f"Use {key} please.", 1),
        json.dumps({"type": "custom-title", "customTitle": f"With {key}"}),
        json.dumps({"type": key, "gitBranch": f"fix/{key}", "sessionId": key}),
    )
    assert key not in str(reading)
    assert reading.indexed.redactions == 3


# --- growing files ---------------------------------------------------------------------------------
def test_an_unfinished_last_line_waits_for_quiet_and_is_not_kept_twice(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    first, last = claude("user", "The first one.", 1), claude("user", "The last one.", 2)
    path.write_text(f"{first}\n{last}", "utf-8")
    written_ms = path.stat().st_mtime_ns // 1_000_000
    busy = read(found(path), None, host="h", now_ms=written_ms + 1000, known=nothing)
    assert busy is not None
    assert said(busy) == [("user", "The first one.")]
    before = file_mark(busy.indexed)
    assert read(found(path), before, host="h", now_ms=written_ms + 2000, known=nothing) is not None
    quiet = read(found(path), before, host="h", now_ms=written_ms + 61_000, known=nothing)
    assert quiet is not None
    assert said(quiet) == [("user", "The last one.")]
    after = file_mark(quiet.indexed)
    assert read(found(path), after, host="h", now_ms=written_ms + 99_000, known=nothing) is None
    with path.open("a") as file:
        file.write("\n" + claude("user", "One more.", 3) + "\n")
    rest = read(found(path), after, host="h", now_ms=written_ms + 99_000, known=nothing)
    assert rest is not None
    assert said(rest) == [("user", "One more.")]


def test_a_rewritten_file_is_read_again_and_known_turns_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(claude("user", "The first one.", 1) + "\n" + claude("user", "The second.", 2) + "\n")
    whole = read(found(path), None, host="h", now_ms=NOW_MS, known=nothing)
    assert whole is not None
    before = file_mark(whole.indexed)
    path.write_text(claude("user", "The first one.", 1) + "\n" + claude("user", "Another.", 3) + "\n")
    keys = {turn.key for turn in whole.turns}
    again = read(found(path), before, host="h", now_ms=NOW_MS, known=lambda session, began, found: keys & found)
    assert again is not None
    assert said(again) == [("user", "Another.")]


@pytest.mark.parametrize("agent", ["claude_code", "codex"])
@pytest.mark.parametrize("longer", ["", " And a longer one it is."])
def test_a_file_rewritten_at_its_old_size_or_larger_is_not_read_on_from_the_wrong_place(
    tmp_path: Path, agent: str, longer: str
) -> None:
    path = tmp_path / "s.jsonl"
    line = claude if agent == "claude_code" else lambda kind, text, n: prompt(text, n)

    def write(*texts: str, start: int = 1) -> None:
        path.write_text("".join(line("user", text, n) + "\n" for n, text in enumerate(texts, start)))

    write("First words.", "Other words.")
    before = read(found(path, agent), None, host="h", now_ms=NOW_MS, known=nothing)
    assert before is not None
    assert before.indexed.offset == path.stat().st_size
    write("Next, words.", "Final words.", f"More of them.{longer}", start=5)
    size = before.indexed.offset
    if not longer:
        os.truncate(path, size)
        assert path.read_bytes().endswith(b"\n")
    os.utime(path, ns=(1, 1))
    again = read(found(path, agent), file_mark(before.indexed), host="h", now_ms=NOW_MS, known=nothing)
    assert again is not None
    wanted = ["Next, words.", "Final words.", *([f"More of them.{longer}"] if longer else [])]
    assert [text for _, text in said(again)] == wanted
    assert again.indexed.offset == path.stat().st_size


def test_a_copy_of_a_session_adds_only_what_is_new(tmp_path: Path) -> None:
    original = read_lines(tmp_path, claude("user", "The first one.", 1))
    keys = {turn.key for turn in original.turns}
    path = tmp_path / "copy.jsonl"
    path.write_text(claude("user", "The first one.", 1, sessionId="other") + "\n" + claude("user", "New.", 2) + "\n")

    def known(session_id: str, began: str, found: set[str]) -> set[str]:
        return keys & found if began == original.indexed.first_key else set()

    copied = read(found(path), None, host="h", now_ms=NOW_MS, known=known)
    assert copied is not None
    assert (copied.indexed.session_id, said(copied)) == ("other", [("user", "New.")])


WORDS = st.text(st.sampled_from("abc é☃\n"), min_size=1, max_size=12).map(lambda text: f"w{text}w")
CLAUDE_LINES = st.lists(
    st.one_of(
        WORDS.map(lambda text: ("user", text)),
        WORDS.map(lambda text: ("assistant", [{"type": "text", "text": text}])),
        st.just(("user", [{"type": "tool_result", "content": "boom", "is_error": True}])),
    ),
    min_size=1,
    max_size=8,
).map(lambda said: [claude(kind, content, n) for n, (kind, content) in enumerate(said)])
CODEX_LINES = st.lists(
    st.one_of(
        WORDS.map(lambda text: [item("user", text), prompt(text)]),
        WORDS.map(lambda text: [item("assistant", text)]),
        st.just([item("user", "<environment_context>x</environment_context>")]),
    ),
    min_size=1,
    max_size=8,
).map(
    lambda groups: [
        event("session_meta", {"id": "c1", "cwd": "/srv/shop"}),
        *(line for group in groups for line in group),
    ]
)


@settings(max_examples=60, deadline=None)
@given(lines=CLAUDE_LINES, cuts=st.lists(st.floats(0, 1), max_size=4))
def test_growing_claude_prefixes_give_the_turns_of_one_read(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], cuts: list[float]
) -> None:
    assert_prefixes_add_up(tmp_path_factory.mktemp("grow"), lines, cuts, "claude_code")


@settings(max_examples=60, deadline=None)
@given(lines=CODEX_LINES, cuts=st.lists(st.floats(0, 1), max_size=4))
def test_growing_codex_prefixes_give_the_turns_of_one_read(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], cuts: list[float]
) -> None:
    assert_prefixes_add_up(tmp_path_factory.mktemp("grow"), lines, cuts, "codex")


def assert_prefixes_add_up(folder: Path, lines: list[str], cuts: list[float], agent: str) -> None:
    """Feed prefixes cut anywhere, also inside a line or a character; some readings find the file quiet."""
    data = ("\n".join(lines) + "\n").encode()
    whole = read_bytes(folder, data, agent)
    path = folder / "grown.jsonl"
    turns: list[Turn] = []
    checkpoint: FileMark | None = None
    for step, cut in enumerate(sorted({int(len(data) * cut) for cut in cuts} | {len(data)})):
        path.write_bytes(data[:cut])
        os.utime(path, ns=(step + 1, step + 1))
        reading = read(found(path, agent), checkpoint, host="h", now_ms=1000 if step % 2 else NOW_MS, known=nothing)
        if reading is not None:
            turns += reading.turns
            checkpoint = file_mark(reading.indexed)
    assert [(turn.speaker, turn.text, turn.key) for turn in turns] == [
        (turn.speaker, turn.text, turn.key) for turn in whole.turns
    ]


# --- Codex -----------------------------------------------------------------------------------------
def test_codex_keeps_each_prompt_once_and_the_first_meta(tmp_path: Path) -> None:
    reading = read_lines(
        tmp_path,
        event("session_meta", {"id": "c1", "cwd": "/srv/shop", "git": {"branch": "main"}}),
        item("user", "# AGENTS.md instructions for /srv/shop"),
        item("user", "Fix the cart."),
        prompt("Fix the cart."),
        item("assistant", "Done."),
        event("session_meta", {"id": "c2", "cwd": "/elsewhere"}),
        item("user", "Fix the cart."),
        prompt("Fix the cart."),
        agent="codex",
    )
    assert said(reading) == [("user", "Fix the cart."), ("assistant", "Done."), ("user", "Fix the cart.")]
    about = reading.indexed
    assert (about.session_id, about.cwd, about.branch, about.human_prompts) == (
        "c1",
        "/srv/shop",
        "main",
        2,
    )
    assert len({turn.key for turn in reading.turns}) == 3


def test_codex_prompts_from_an_editor_lose_the_editors_context(tmp_path: Path) -> None:
    text = "# Context from my IDE setup:\n\n## Open tabs: a.py\n\n## My request for Codex:\nFix the cart."
    reading = read_lines(tmp_path, event("session_meta", {"id": "c1"}), prompt(text), agent="codex")
    assert said(reading) == [("user", "Fix the cart.")]


def test_codex_failing_calls_show_and_good_ones_do_not(tmp_path: Path) -> None:
    reading = read_lines(
        tmp_path,
        event(
            "response_item",
            {"type": "function_call", "name": "shell", "arguments": '{"command":["ls"]}', "call_id": "1"},
        ),
        event(
            "response_item",
            {"type": "function_call_output", "call_id": "1", "output": "Process exited with code 0\nok"},
        ),
        event(
            "response_item",
            {"type": "function_call_output", "call_id": "2", "output": "Process exited with code 2\nno"},
        ),
        event(
            "response_item", {"type": "function_call_output", "output": {"metadata": {"exit_code": 1}, "output": "bad"}}
        ),
        event("event_msg", {"type": "exec_command_end", "aggregated_output": "again"}),
        agent="codex",
    )
    assert [text[:40] for _, text in said(reading)] == [
        'shell: {"command":["ls"]}',
        "error: Process exited with code 2\nno",
        'error: {"metadata":{"exit_code":1},"outp',
    ]


def test_codex_rollbacks_take_their_turns_with_them(tmp_path: Path) -> None:
    reading = read_lines(
        tmp_path,
        prompt("Keep this."),
        prompt("Not this."),
        item("assistant", "Nor this."),
        event("event_msg", {"type": "thread_rolled_back", "num_turns": 1}),
        prompt("But this."),
        agent="codex",
    )
    assert [text for _, text in said(reading)] == ["Keep this.", "But this."]


def test_codex_spawned_threads_belong_to_their_parent(tmp_path: Path) -> None:
    spawned = {"id": "c2", "source": {"subagent": {"thread_spawn": {"parent_thread_id": "c1"}}}}
    reading = read_lines(tmp_path, event("session_meta", spawned), prompt("Do this part."), agent="codex")
    assert (reading.turns, reading.indexed.skip_reason) == ([], "a subagent's file")


def test_the_old_codex_format_is_read(tmp_path: Path) -> None:
    place = "<environment_context>\n<cwd>/srv/shop</cwd>\n</environment_context>"
    reading = read_lines(
        tmp_path,
        json.dumps({"id": "c0", "timestamp": "2025-08-01T10:00:00Z", "instructions": None, "git": {"branch": "main"}}),
        json.dumps({"record_type": "state"}),
        json.dumps({"type": "message", "role": "user", "content": [{"type": "input_text", "text": place}]}),
        json.dumps({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix the cart."}]}),
        json.dumps({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Done."}]}),
        agent="codex",
    )
    assert said(reading) == [("user", "Fix the cart."), ("assistant", "Done.")]
    assert (reading.indexed.session_id, reading.indexed.cwd, reading.indexed.human_prompts) == ("c0", "/srv/shop", 1)
