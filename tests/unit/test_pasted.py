"""What a person wrote himself and what he pasted, told by shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lerim_jobs.sessions.speech import others_words, own_words


def own(text: str) -> list[str]:
    return [line for line in own_words(text).splitlines() if line.strip("\x00")]


@pytest.mark.parametrize(
    "text",
    [
        "#6 yes, keep the index\n#2 no locking, one worker only\n# 3 later",
        "$review the cart and never touch prices",
        "> 5 MB must be refused\n>= 3 tries are enough",
        "# Rules\nWe use tabs.\n## Names\nShort ones.",
        "DEBUG builds must never be shipped\nERROR pages are in German\nAPI keys stay in the vault",
        "- tabs, no spaces\n+ trailing commas\n* short lines",
        "1) yes; always ask;\n2) no; never push;\n3) keep it;",
        "$5 a month is the cap\n$ 5 is fine",
        "|x| means the absolute value here",
        "Use `make(x)`, not `build()`.\nKeep main.py:12 as it is.",
        "at 10:30 we deploy, never before",
        "MUST: tabs\nNEVER: spaces",
        "#3 不加锁，只有一个进程\n我们决定使用缓存。\n＃4 要",
        "注文はSQLiteに保存する\n#2 ロックなし",
        "เราใช้แท็บเท่านั้น\n#1 ใช่",
    ],
)
def test_what_people_write_is_theirs(text: str) -> None:
    assert own(text) == text.splitlines()
    assert not others_words(text)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("> should we lock?\nno, never", ["no, never"]),
        ("$ cat RULES.md\nAlways push to main\n\nthat is wrong", ["that is wrong"]),
        ("$ make test\nwe never want that to block", ["we never want that to block"]),
        ("dev@host:~/x$ git push --force\n❯ ls", []),
        (">>> always()\nok", ["ok"]),
        ("2026-01-02T10:11:12Z always push\n10:11:12.345 INFO always push\nso what", ["so what"]),
        ("The log:\nWARNING always push\nso what", ["The log:", "so what"]),
        ("WARNING Always push\nERROR could not push", []),
        ("Jan  2 10:11:12 host app[1]: always push", []),
        ("[error] always push\nnpm ERR! always push", []),
        (
            'look:\nTraceback (most recent call last):\n  File "a.py", line 3, in f\n    always()\nPushError: always push\nwhy?',
            ["look:", "why?"],
        ),
        ("    at push (/srv/a.js:1:2)\n    at /srv/b.js:3:4\nCaused by: always push", []),
        (
            "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,2 +1,3 @@\n ctx\n-old\n+always push\n+twice\nI like tabs",
            ["I like tabs"],
        ),
        ("| rule | why |\n|---|---|\n| always push | speed |\nno", ["no"]),
        ('{\n  "rule": "always push to main now"\n}\nno', ["no"]),
        ("<rules>\n<rule>\nyes", ["yes"]),
        ("def push():\n    return always()\n    push()\n", []),
        ("const a = 1;\nlet b = always(a);\npush(b);\nplease not", ["please not"]),
        ("DATABASE_URL=x\nALWAYS=push\nok", ["ok"]),
        ("````\n```\nalways push\n```\n````\nno", ["no"]),
        ("```\nnever closed\nUser: x", []),
        ("~~~\na\n```\nb\n~~~\nno", ["no"]),
        ("\u001b[31malways push".replace("\u001b", ""), []),
        ("用户：总是推送\n好的", []),
    ],
)
def test_what_was_pasted_is_not(text: str, kept: list[str]) -> None:
    assert own(text) == kept


@given(st.text(max_size=300))
def test_every_line_is_somebodys(text: str) -> None:
    mine = [line for line in own_words(text).splitlines() if line != "\x00"]
    assert len(mine) + len(others_words(text).splitlines()) <= len(text.splitlines()) + 1


def test_long_lines_cost_no_time() -> None:
    for run in ("a", "a ", " ", "|", "用", "-", "a.", "1:", "[", "=", "A=b "):
        own_words(run * 50_000)
