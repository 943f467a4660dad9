"""Starting Python for a part of ours, so that it runs our own modules whatever the surroundings put in their way.

`workers` and `scheduler` are names that other people's repositories have too: PYTHONPATH, or the folder a command is run in, must
not decide which of them starts.
"""

from __future__ import annotations

import site
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["own_environment", "own_python"]

_ROOT = Path(__file__).resolve().parents[2]


def own_python(*arguments: str) -> list[str]:
    """The command for these arguments: nothing is imported from the folder it starts in."""
    return [sys.executable, "-P", *arguments]


def own_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without what changes where Python looks; with our own folder where we are no installed package."""
    own = {name: value for name, value in env.items() if name != "PYTHONPATH"} | {"PYTHONSAFEPATH": "1"}
    installed = {Path(one).resolve() for one in (*site.getsitepackages(), site.getusersitepackages())}
    return own if _ROOT in installed else own | {"PYTHONPATH": str(_ROOT)}
