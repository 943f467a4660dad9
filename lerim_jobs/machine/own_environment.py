"""Starting Python for a part of ours, so that it runs our own modules whatever the surroundings put in their way.

`workers` and `scheduler` are names that other people's repositories have too: PYTHONPATH, or the folder a command is run in, must
not decide which of them starts.
"""

from __future__ import annotations

import site
from collections.abc import Mapping
from pathlib import Path

__all__ = ["own_environment"]

_ROOT = Path(__file__).resolve().parents[2]


def own_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without what changes where Python looks, which is not the folder it starts in either; with our own folder
    where we are no installed package.
    """
    own = {name: value for name, value in env.items() if name != "PYTHONPATH"} | {"PYTHONSAFEPATH": "1"}
    installed = {Path(one).resolve() for one in (*site.getsitepackages(), site.getusersitepackages())}
    return own if _ROOT in installed else own | {"PYTHONPATH": str(_ROOT)}
