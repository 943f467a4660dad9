"""check: ask one role's model for one word.

Reads   the settings of the role
Writes  who answered, how long it took, what it cost, or why nobody did
Raises  nothing of the models' errors: a failing model is the result
"""

from __future__ import annotations

from typing import Any

from lerim_jobs.errors import JobsError
from workers.stage import Outcome, StageContext

__all__ = ["run"]


def run(ctx: StageContext) -> Outcome:
    """One small call through the same path as all others: journal, caps, fallbacks, trace."""
    role = ctx.input["role"]
    output: dict[str, Any] = {
        "role": role,
        "ok": False,
        "asked": "",
        "model": None,
        "tokens_in": 0,
        "tokens_out": 0,
        "duration_ms": 0,
        "failed": [],
        "error": None,
    }
    try:
        output.update(ctx.models().ping(role), ok=True)
    except JobsError as exc:
        output["error"] = f"{type(exc).__name__}: {exc}"
    return Outcome(output)
