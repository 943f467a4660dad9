"""Which lines of what a person sent were pasted into it: code, quotations, logs, stack traces, diffs, tables, shell transcripts.

Decided by shape, not by a first character: people number their answers (`#6 yes`), call skills (`$review the cart`) and write
lists. Some shapes say enough alone, such as a time in front of a line or a fence around it; others count only in a row, or
right beside a line that says enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["lines"]

_OWN, _PASTED = "", "pasted"
_SHAPE_CHARS = 400
"""So much of a line, of its beginning and end, is looked at."""
_FENCE = re.compile(r"\s{0,3}(?:[-*>\d.]{0,4}\s)?\s*(`{3,}|~{3,})(.*)")
_ROLE = re.compile(
    r"\s*\W{0,6}(?:user|human|assistant|ai|tool|system|developer|claude|codex|用户|用戶|助手|系统|系統|ユーザー|アシスタント|사용자)"
    r"\W{0,3}[:\uff1a]",
    re.IGNORECASE,
)
_COMMANDS = (
    "apt|awk|aws|az|bash|brew|bun|bundle|cargo|cat|cd|chmod|cmake|composer|cp|curl|deno|df|diff|docker|dotnet|du|echo|env|export"
    "|find|gcloud|gh|git|go|gradle|grep|head|helm|java|journalctl|jq|kill|kubectl|less|ln|ls|make|mkdir|mv|mvn|mysql|next|nmap|node"
    "|npm|npx|php|ping|pip|pip3|pnpm|poetry|ps|psql|pwd|pytest|python|python3|rake|redis-cli|rg|rm|rsync|ruby|rustc|rustup|scp|sed"
    "|sh|sqlite3|ssh|sudo|systemctl|tail|tar|terraform|time|top|touch|tree|tsc|uv|uvx|wc|wget|which|yarn|zsh"
)
_COMMAND = re.compile(rf"(?:(?:{_COMMANDS})(?:\s|$)|\.{{0,2}}/\S|[A-Z_]{{2,}}=\S|\S+(?:\s\S+)*?\s--?[a-z])")
_PRINTS = re.compile(
    r"(?:sudo\s+)?(?:bat|cat|curl|echo|head|less|more|printf|tail|type|git\s+(?:log|show|diff|blame))\b"
)
_PROMPT = re.compile(
    r"\s*(?:\([\w.-]+\)\s*)?"
    r"(?:[\w.-]+@[\w.-]+(?::|\s)\S*\s?[$#%]|\[[\w.-]+@[\w.-]+[^\]]*\][$#]|[\u279c\u276f]\s|PS [A-Z]:\\[^>]*>|[A-Z]:\\[^>]*>"
    r"|>>>\s|\.\.\.\s{2}|In \[\d+\]:|Out\[\d+\]:)"
)
_DOLLAR = re.compile(r"\s*[$%]\s+(\S.*)")
_ALONE = re.compile(
    r"\s*(?:"
    r"\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d"  # a log line by its time
    r"|\[?\d\d:\d\d:\d\d(?:[.,]\d+)?\]?[\s|]"
    r"|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [ \d]\d \d\d:\d\d:\d\d\s"
    r"|\d{1,3}(?:\.\d{1,3}){3} \S+ \S+ \["
    r"|\[?(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b(?:\]|:|\s+[-|\[(A-Z])"  # or by its level
    r"|\[(?:trace|debug|info|notice|warn|warning|error|fatal)\]\s"
    r"|(?:npm|yarn|pnpm)\s(?:ERR!|WARN|error|warn)(?!\w)"
    r"|File \"[^\"]+\", line \d"  # a stack
    r"|at\s+[^\s(]+\s*\([^)]*:\d+"
    r"|at\s+\S+:\d+:\d+\s*$"
    r"|Caused by:\s\S"
    r"|\S+\.\w{1,5}:\d+:\d+:\s"  # a compiler
    r"|[d-][rwx-]{9}[.@+]?\s"
    r"|={5,}.*={5,}\s*$"
    r"|E\s{3,}\S"
    r"|\S*\[\d{1,3}(?:;\d{1,3})*m"  # what is left of a terminal's colours
    r"|\|.*\|\s*$"  # a table
    r"|[┌├└│╭╰]"
    r")"
)
_QUOTED = re.compile(r"\s{0,3}>(?!\s*=)(?!\s*\d+(?![.)\d]))")
_DIFF = re.compile(r"(?:diff --git |index [0-9a-f]{7,}\.\.|--- (?:a/|/dev/null)|\+\+\+ (?:b/|/dev/null))")
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_TRACEBACK = re.compile(
    r"\s*(?:Traceback \(most recent call last\)|thread '[^']*' panicked at|panic: |goroutine \d+ \[)"
)
_ROWS: tuple[tuple[str, int, re.Pattern[str]], ...] = (
    ("data", 2, re.compile(r'\s*(?:[{}\[\]]+,?\s*$|"[^"]{1,80}"\s*:\s|</?[A-Za-z][\w:.-]*(?:\s[^<>]*)?/?>)')),
    (
        "code",
        3,
        re.compile(
            r"\s*(?:(?:def|class|async def)\s\w+.*:\s*$|(?:import|from)\s[\w.]+(?:\simport\s.*)?;?\s*$|(?:const|let|var)\s\w+\s*="
            r"|(?:public|private|protected|static|export|function|func|fn|struct|impl|use|package|namespace|#include)\s.*[{;(>]\s*$"
            r"|(?:if|for|while|switch)\s*\(.*\)\s*\{?\s*$|return\s.*;\s*$|(?=.*[=(\[])\S.*[;{]\s*$|\w+\s*\{\s*$|\}.*$|\s{4,}\S|\s{2,}[\w.]+\(.*\)\s*$"
            r"|[\w.\[\]]+\s=\s\S)"
        ),
    ),
    ("pairs", 2, re.compile(r"\s*(?:[\w.-]+=\S+\s+){2,}[\w.-]+=\S+\s*$|\s*[A-Z][A-Z0-9_]{2,}=\S*\s*$")),
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_SIGNS = re.compile(r"[(){}\[\]=<>;|\\]")
_BESIDE = re.compile(
    r"\s*(?:\||[$%#]\s(?!\d)|//|--\s|[A-Z_]{2,}\b|\w*(?:Error|Exception|Warning)\b\s*:|(?:TRACE|DEBUG|INFO|NOTICE|WARN|ERROR|FATAL)\b|\.\.\.|\^+\s*$"
    r"|\S+\.\w{1,5}:\d+\b)"
)
"""Pasted where it stands right beside a line that says enough."""


def lines(text: str) -> Iterator[tuple[bool, str]]:
    """Each line, and whether the person wrote it himself.

    A line that begins like somebody's turn, such as `User: `, begins a pasted conversation: it and all below are pasted.
    """
    all_lines = text.splitlines()
    shapes = [line if len(line) <= _SHAPE_CHARS else line[: _SHAPE_CHARS - 50] + line[-50:] for line in all_lines]
    kinds = list(_kinds(shapes))
    _in_rows(shapes, kinds)
    _spread(shapes, kinds)
    for kind, line in zip(kinds, all_lines, strict=True):
        yield kind != _PASTED, line


def _kinds(all_lines: list[str]) -> Iterator[str]:
    """What each line is by itself, or by the block that it stands in."""
    fence = ""
    old = new = 0
    trace = printed = foreign = False
    for line in all_lines:
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
            yield _PASTED
        elif foreign or _ROLE.match(line):
            foreign = True
            yield _PASTED
        elif mark:
            fence = mark[1] if "`" not in mark[2] else ""
            yield _PASTED
        elif (old > 0 or new > 0) and (not line or line[0] in " +-\\"):
            old, new = old - (line[:1] != "+"), new - (line[:1] != "-")
            yield _PASTED
        elif hunk := _HUNK.match(line):
            old, new = int(hunk[1] or 1), int(hunk[2] or 1)
            yield _PASTED
        elif trace and line.strip():
            trace = line[0].isspace()
            yield _PASTED
        elif printed and line.strip():
            yield _PASTED
        else:
            old = new = 0
            trace = bool(_TRACEBACK.match(line))
            command = _DOLLAR.match(line)
            printed = bool(command and _PRINTS.match(command[1]))
            yield _PASTED if trace or _says_enough(line, command) else _OWN


def _says_enough(line: str, command: re.Match[str] | None) -> bool:
    if command and _COMMAND.match(command[1]):
        return True
    return bool(_ALONE.match(line) or _QUOTED.match(line) or _PROMPT.match(line) or _DIFF.match(line))


def _in_rows(all_lines: list[str], kinds: list[str]) -> None:
    """Mark lines of one shape that stand in a row."""
    for name, least, shape in _ROWS:
        row: list[int] = []
        for at, line in enumerate([*all_lines, ""]):
            if shape.match(line) and not (name == "code" and _is_prose(line)):
                row.append(at)
                continue
            if len(row) >= least:
                for one in row:
                    kinds[one] = _PASTED
            row = []


def _is_prose(line: str) -> bool:
    """Whether a line reads as a sentence: words, or a run of letters in a script without spaces, and hardly a sign of code."""
    letters = sum(map(len, _WORD.findall(line)))
    words = len(_WORD.findall(line)) if line.isascii() else letters // 3
    return words >= 3 and 12 * len(_SIGNS.findall(line)) < letters


def _spread(all_lines: list[str], kinds: list[str]) -> None:
    """Mark what counts only beside a line that says enough."""
    for order in (range(1, len(kinds)), range(len(kinds) - 2, -1, -1)):
        step = 1 if order.step > 0 else -1
        for at in order:
            if kinds[at] == _OWN and kinds[at - step] == _PASTED and _BESIDE.match(all_lines[at]):
                kinds[at] = _PASTED
