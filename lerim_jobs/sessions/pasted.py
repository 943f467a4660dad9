"""Which lines of what a person sent were pasted into it: code, quotations, logs, stack traces, diffs, tables, shell transcripts.

Decided by shape, not by a first character: people number their answers (`#6 yes`), call skills (`$review the cart`) and write
lists. Some shapes say enough alone, such as a time in front of a line or a fence around it; others count only in a row, or
right beside a line that says enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["lines"]

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
    r"|\[?(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b(?:\]|:|\s+[-|\[(A-Z\d\"'])"  # or by its level
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
_LEVEL = re.compile(r"\s*\[?(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b")
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
    blocks = _Blocks()
    pasted = [blocks.holds(line) for line in shapes]
    _in_rows(shapes, pasted)
    _spread(shapes, pasted)
    for is_pasted, line in zip(pasted, all_lines, strict=True):
        yield not is_pasted, line


class _Blocks:
    """What began above and holds the next line, too: a fence, a diff, a stack, what a command printed, a conversation."""

    def __init__(self) -> None:
        self._fence = ""
        self._foreign = self._trace = self._printed = False
        self._old = self._new = 0

    def holds(self, line: str) -> bool:
        """Whether the line is pasted by its own shape or by the block it stands in."""
        mark = _FENCE.match(line)
        if self._fence:
            if mark and mark[1].startswith(self._fence) and not mark[2].strip():
                self._fence = ""
            return True
        self._foreign = self._foreign or bool(_ROLE.match(line))
        if self._foreign:
            return True
        if mark:
            self._fence = mark[1] if "`" not in mark[2] else ""
            return True
        return self._in_diff(line) or self._in_output(line)

    def _in_diff(self, line: str) -> bool:
        if hunk := _HUNK.match(line):
            self._old, self._new = int(hunk[1] or 1), int(hunk[2] or 1)
            return True
        if (self._old > 0 or self._new > 0) and (not line or line[0] in " +-\\"):
            self._old, self._new = self._old - (line[:1] != "+"), self._new - (line[:1] != "-")
            return True
        self._old = self._new = 0
        return False

    def _in_output(self, line: str) -> bool:
        if line.strip() and (self._trace or self._printed):
            self._trace = self._trace and line[0].isspace()
            return True
        command = _DOLLAR.match(line)
        self._trace = bool(_TRACEBACK.match(line))
        self._printed = bool(command and _PRINTS.match(command[1]))
        return self._trace or _says_enough(line, command)


def _says_enough(line: str, command: re.Match[str] | None) -> bool:
    if command and _COMMAND.match(command[1]):
        return True
    return bool(_ALONE.match(line) or _QUOTED.match(line) or _PROMPT.match(line) or _DIFF.match(line))


def _in_rows(all_lines: list[str], pasted: list[bool]) -> None:
    """Mark lines of one shape that stand in a row."""
    for name, least, shape in _ROWS:
        row: list[int] = []
        for at, line in enumerate([*all_lines, ""]):
            if shape.match(line) and not (name == "code" and _is_prose(line)):
                row.append(at)
                continue
            if len(row) >= least:
                for one in row:
                    pasted[one] = True
            row = []


def _is_prose(line: str) -> bool:
    """Whether a line reads as a sentence: words, or a run of letters in a script without spaces, and hardly a sign of code."""
    letters = sum(map(len, _WORD.findall(line)))
    words = len(_WORD.findall(line)) if line.isascii() else letters // 3
    return words >= 3 and 12 * len(_SIGNS.findall(line)) < letters


def _spread(all_lines: list[str], pasted: list[bool]) -> None:
    """Mark what counts only beside a line that says enough."""
    for order in (range(1, len(pasted)), range(len(pasted) - 2, -1, -1)):
        step = 1 if order.step > 0 else -1
        for at in order:
            beside = pasted[at - step] and _BESIDE.match(all_lines[at])
            announced = (
                step > 0 and all_lines[at - 1].rstrip().endswith((":", "\uff1a")) and _LEVEL.match(all_lines[at])
            )
            if beside or announced:
                pasted[at] = True
