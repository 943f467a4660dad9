"""Lines of a memory's file that are no words of it: the conflict markers of git, and the line that opens our part.

A memory may say such a line itself. It then stands in the file with a backslash before it, as markdown has it for characters
that are meant as they are, and one more than it has already.
"""

from __future__ import annotations

import re

__all__ = ["PROOF_MARKER", "conflict_line", "escaped", "split_at_proof", "unescaped"]

PROOF_MARKER = "<!-- proof: everything below is written by lerim -->"
_CONFLICT = r"(?:<{7}|>{7}) "
_ANY = rf"(?:{_CONFLICT}|{re.escape(PROOF_MARKER)})"
_CONFLICTS = re.compile(rf"^{_CONFLICT}", re.MULTILINE)
_MEANT = re.compile(rf"^(?=\\*{_ANY})", re.MULTILINE)
_ESCAPED = re.compile(rf"^\\(?=\\*{_ANY})", re.MULTILINE)


def escaped(text: str) -> str:
    """The words as they stand in a file."""
    return _MEANT.sub(r"\\", text)


def unescaped(text: str) -> str:
    """The words that stand in a file."""
    return _ESCAPED.sub("", text)


def conflict_line(text: str) -> int | None:
    """The line (from 1) of the first marker of a conflict that nobody resolved."""
    found = _CONFLICTS.search(text)
    return text.count("\n", 0, found.start()) + 1 if found else None


def split_at_proof(text: str) -> tuple[str, str | None]:
    """What stands above and below the last line that opens our part; None when there is no such line."""
    above, marker, below = text.rpartition(f"\n{PROOF_MARKER}\n")
    return (above, below) if marker else (text, None)
