"""Every kind of job, a file each: what it is asked for with, its stages, and what becomes of them. Light to import.

A module here that has a `KIND` is a kind; there is no other list.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from lerim_jobs.errors import BadInput
from lerim_jobs.kinds.kind import Kind, Stage, family

__all__ = ["all_stages", "found_by_publishing", "kind_of", "kinds", "known_stage", "stage_of"]


@cache
def kinds() -> dict[str, Kind]:
    """All kinds by name."""
    modules = [importlib.import_module(f"{__name__}.{one.name}") for one in pkgutil.iter_modules(__path__)]
    found = [module.KIND for module in modules if isinstance(getattr(module, "KIND", None), Kind)]
    return {kind.name: kind for kind in found}


@cache
def all_stages() -> dict[str, Stage]:
    """All families of stages by name. Raises ValueError when two kinds mean different ones by a name."""
    found: dict[str, Stage] = {}
    for kind in kinds().values():
        for stage in kind.stages:
            if found.setdefault(stage.name, stage) is not stage:
                raise ValueError(f"two stages have the name {stage.name!r}")
    return found


def kind_of(name: str) -> Kind:
    """Raises BadInput for a kind this version does not know."""
    try:
        return kinds()[name]
    except KeyError:
        raise BadInput(f"this version has no job of the kind {name!r}") from None


def stage_of(stage: str) -> Stage:
    """The table's row for a stage. Raises BadInput for one this version does not know."""
    if found := known_stage(stage):
        return found
    raise BadInput(f"this version has no stage {stage!r}")


def known_stage(stage: str) -> Stage | None:
    """The table's row for a stage, None for one that only another version knows."""
    return all_stages().get(family(stage))


def found_by_publishing(stage: str) -> bool:
    """Whether what this stage appended was done by a person with an editor: the job only found it in the files."""
    known = known_stage(stage)
    return known is not None and known.publishes
