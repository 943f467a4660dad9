"""Finding files, matching projects, cutting windows, taking secrets out."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerim_jobs.config import Agent
from lerim_jobs.errors import ConfigError
from lerim_jobs.sessions import discovery, projects
from lerim_jobs.sessions.secret_shapes import SHAPES, VENDOR_PREFIXES
from lerim_jobs.sessions.secrets import redact, redact_all
from lerim_jobs.sessions.transcript import Turn, find_quote
from lerim_jobs.sessions.windows import CHARS_PER_TOKEN, cut
from tests.planted import PREFIXES, SECRETS, core_of


def test_usual_folders_are_found_and_missing_ones_are_no_error(tmp_path: Path) -> None:
    (tmp_path / ".claude" / "projects").mkdir(parents=True)
    found = discovery.roots({"HOME": str(tmp_path)}, {})
    assert found == {"claude_code": [tmp_path / ".claude" / "projects"]}


def test_configured_folders_win_and_can_be_switched_off(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    env = {"HOME": str(tmp_path), "CODEX_HOME": str(tmp_path / "nowhere")}
    given: dict[str, str | Agent] = {"claude_code": str(tmp_path / "here"), "codex": Agent(enabled=False)}
    assert discovery.roots(env, given) == {"claude_code": [tmp_path / "here"]}
    assert discovery.roots(env, {"claude_code": "~/here"}) == {"claude_code": [tmp_path / "here"]}


def test_an_unknown_agent_in_the_settings_is_named() -> None:
    with pytest.raises(ConfigError, match=r"agents\.claud.*claude_code, codex"):
        discovery.roots({"HOME": "/"}, {"claud": "/x"})


def test_odd_things_are_counted_and_never_opened(tmp_path: Path) -> None:
    (tmp_path / "root" / "deep").mkdir(parents=True)
    (tmp_path / "outside.jsonl").write_text("{}\n")
    (tmp_path / "root" / "deep" / "good.jsonl").write_text("{}\n")
    (tmp_path / "root" / "folder.jsonl").mkdir()
    (tmp_path / "root" / "folder.jsonl" / "inside.jsonl").write_text("{}\n")
    (tmp_path / "root" / "notes.txt").write_text("x")
    os.mkfifo(tmp_path / "root" / "pipe.jsonl")
    (tmp_path / "root" / "link.jsonl").symlink_to(tmp_path / "outside.jsonl")
    (tmp_path / "root" / "loop").symlink_to(tmp_path / "root")
    found, unread = discovery.scan({"codex": [tmp_path / "root", tmp_path / "root" / "deep"]})
    assert sorted(Path(one.path).name for one in found) == ["good.jsonl", "inside.jsonl"]
    assert sorted((Path(one.path).name, one.reason) for one in unread) == [
        ("folder.jsonl", "a folder, not a file"),
        ("link.jsonl", "a symbolic link"),
        ("pipe.jsonl", "not a file (p)"),
    ]


def test_a_missing_root_is_counted(tmp_path: Path) -> None:
    found, unread = discovery.scan({"codex": [tmp_path / "gone"]})
    assert found == []
    assert "unreadable folder" in unread[0].reason


def test_the_deepest_project_wins_and_names_that_only_begin_alike_do_not_match(tmp_path: Path) -> None:
    known = {"outer": "/srv/shop", "inner": "/srv/shop/api"}
    assert projects.match("/srv/shop/api/src", known) == "inner"
    assert projects.match("/srv/shop", known) == "outer"
    assert projects.match("/srv/shopping", known) is None
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert projects.match(str(tmp_path / "link" / "src"), {"p": str(tmp_path / "real")}) == "p"


# --- windows ---------------------------------------------------------------------------------------
TURNS = st.lists(st.text(st.sampled_from("ab \n"), min_size=1, max_size=400), max_size=25).map(
    lambda texts: [Turn(n, "user", text, str(n)) for n, text in enumerate(texts)]
)


@given(turns=TURNS, max_tokens=st.integers(20, 120), overlap_tokens=st.integers(0, 19))
def test_windows_hold_every_turn_in_order_and_keep_their_size(
    turns: list[Turn], max_tokens: int, overlap_tokens: int
) -> None:
    windows = cut(turns, max_tokens=max_tokens, overlap_tokens=overlap_tokens)
    covered = {n for window in windows for n in range(window.turn_from, window.turn_to)}
    assert covered == {turn.n for turn in turns}
    assert all(len(window.text(turns)) <= max_tokens * CHARS_PER_TOKEN for window in windows)
    assert [window.turn_to for window in windows] == sorted(window.turn_to for window in windows)
    letters = "".join(turn.text for turn in turns).replace(" ", "").replace("\n", "")
    shown = "".join(window.text(turns) for window in windows).replace("User:", "").replace(" ", "").replace("\n", "")
    assert len(shown) >= len(letters)


@given(turns=TURNS, max_tokens=st.integers(20, 120))
def test_windows_without_overlap_hold_every_character_once(turns: list[Turn], max_tokens: int) -> None:
    windows = cut(turns, max_tokens=max_tokens, overlap_tokens=0)
    shown: dict[int, str] = {}
    for window in windows:
        for turn in window.of(turns):
            shown[turn.n] = shown.get(turn.n, "") + turn.text
    assert shown == {turn.n: turn.text for turn in turns}


def test_a_turn_that_a_redaction_made_shorter_or_longer_still_stands_in_its_windows() -> None:
    turn = Turn(3, "user", "x" * 500, "k")
    windows = cut([turn], max_tokens=40, overlap_tokens=0)
    assert len(windows) > 3
    for text in ("[REDACTED]", "y" * 900):
        changed = [msgspec.structs.replace(turn, text=text)]
        assert "".join(part.text for window in windows for part in window.of(changed)) == text


def test_the_overlap_repeats_the_end_of_the_window_before() -> None:
    turns = [Turn(n, "user", f"turn {n} " + "x" * 60, str(n)) for n in range(6)]
    windows = cut(turns, max_tokens=70, overlap_tokens=30)
    assert len(windows) > 1
    for before, after in itertools.pairwise(windows):
        assert after.turn_from == before.turn_to - 1


def test_quotes_are_found_whatever_their_white_space_and_the_users_words_win() -> None:
    turns = [
        Turn(0, "tool", "we use tabs", "a"),
        Turn(1, "assistant", "we  use\ntabs", "b"),
        Turn(2, "user", "well, we use tabs here", "c"),
    ]
    found = find_quote(turns, " we use \n tabs ")
    assert found is not None
    assert found.n == 2
    assert find_quote(turns, "we use spaces") is None
    assert find_quote(turns, "  ") is None


# --- redaction -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_of_every_shape_are_taken_out(name: str) -> None:
    secret = SECRETS[name]
    core = core_of(secret)
    for text, count in (redact(f"before {secret} after"), _one(redact_all(["nothing", f"before {secret} after"]))):
        assert count == 1
        assert core not in text
        assert text.startswith("before ")
        assert "[REDACTED:" in text
        assert redact(text) == (text, 0)


def test_every_row_of_the_table_has_a_secret_that_only_it_finds() -> None:
    found = {
        name: [shape for shape in SHAPES if (shape.inner or shape.pattern).search(f"before {secret} after")]
        for name, secret in SECRETS.items()
    }
    assert all(found.values())
    assert {shapes[0] for shapes in found.values() if len(shapes) == 1} == set(SHAPES)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_keys_are_known_by_what_vendors_put_before_them(prefix: str) -> None:
    assert redact(f"it is {prefix}A1b2c3d4e5f6g7h8i9 here") == ("it is [REDACTED:api-key] here", 1)


def test_every_prefix_of_the_table_is_tried() -> None:
    assert sorted(PREFIXES) == sorted(VENDOR_PREFIXES)


def _one(redacted: tuple[list[str], int]) -> tuple[str, int]:
    assert redacted[0][0] == "nothing"
    return redacted[0][1], redacted[1]


@pytest.mark.parametrize(
    "text",
    [
        "Use task-runner and disk-usage, not sk-.",
        "The key of the map is a token; keys = sorted(tokens)",
        "https://example.org/path?x=1 and git@github",
        "bearer of bad news",
        "def secret(key): return key == token",
        "The password is checked before the session: see auth.py and docs/passwords-and-tokens.md",
        "Set max_tokens: 4096 and pass --token-limit to the script",
        "src/very/long/path/to/some/module_with_a_long_name.py and https://example.org/a/b/c?d=e",
        "task-runner-with-a-long-name, risk-based-authentication-2, sk-learn",
    ],
)
def test_plain_text_is_left_alone(text: str) -> None:
    assert redact(text) == (text, 0)


@pytest.mark.parametrize(
    "piece", ["a@", "key=", "sk-", "eyJ.", "://a:", "-----BEGIN PRIVATE KEY-----", "token: '", "a.b@c."]
)
def test_redaction_takes_linear_time(piece: str) -> None:
    def seconds(size: int) -> float:
        begin = time.process_time()
        redact(piece * (size // len(piece)))
        return time.process_time() - begin

    seconds(1000)
    small, large = seconds(20_000), seconds(200_000)
    assert large < max(small, 0.002) * 60
