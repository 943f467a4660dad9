"""Which registered project a session belongs to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePath

__all__ = ["match"]


def match(cwd: str, projects: Mapping[str, str]) -> str | None:
    """The project whose folder is, or contains, the working directory; of several the deepest. None: no project.

    `projects` maps project id to folder. Links are resolved on both sides, because a session records either form. A
    relative directory belongs nowhere: relative to what is not known.
    """
    if not os.path.isabs(cwd) or "\0" in cwd:
        return None
    places = {PurePath(os.path.normpath(cwd)), PurePath(os.path.realpath(cwd))}
    best: tuple[int, str] | None = None
    for project_id, folder in projects.items():
        for root in {PurePath(folder), PurePath(os.path.realpath(folder))}:
            if any(place == root or root in place.parents for place in places):
                best = max(best or (0, ""), (len(root.parts), project_id))
    return best[1] if best else None
