"""What a sync would cost, before it is run: token counts of the waiting turns, and prices where they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from lerim_jobs.config import RoleName, Settings
from lerim_jobs.providers import resolve
from workers.models.prices import bound_usd

__all__ = ["Waiting", "estimate"]

# What prompts and answers come to beside the transcript, in tokens, from the prompts in `extraction.py` and `agents/`
# and answers of usual length. The lead decides a session's candidates in one or two calls and seldom sends the explorer.
_EXTRACT_IN, _EXTRACT_OUT = 900, 500
_SUMMARY_IN, _SUMMARY_OUT = 600, 250
_LEAD_CALLS, _LEAD_IN, _LEAD_OUT = 2, 2500, 250
_EXPLORER_CALLS, _EXPLORER_IN, _EXPLORER_OUT = 1, 1000, 150


class Waiting(msgspec.Struct, frozen=True):
    """One session that would be extracted: tokens of its new turns, and how many windows they make.

    `at_once`: its one window gives the summary too.
    """

    tokens: int
    windows: int
    at_once: bool = False


def estimate(waiting: Sequence[Waiting], settings: Settings, env: Mapping[str, str]) -> dict[str, Any]:
    """Sessions, calls, tokens and cost; `cost_usd` None when a role's price is unknown."""
    tokens, windows, sessions = sum(one.tokens for one in waiting), sum(one.windows for one in waiting), len(waiting)
    apart = [one for one in waiting if not one.at_once]
    apart_tokens, apart_windows = sum(one.tokens for one in apart), sum(one.windows for one in apart)
    roles: dict[RoleName, tuple[int, int, int]] = {
        "extract": (
            windows,
            tokens + windows * _EXTRACT_IN,
            windows * _EXTRACT_OUT + (windows - apart_windows) * _SUMMARY_OUT,
        ),
        "summarize": (apart_windows, apart_tokens + apart_windows * _SUMMARY_IN, apart_windows * _SUMMARY_OUT),
        "lead": tuple(sessions * _LEAD_CALLS * each for each in (1, _LEAD_IN, _LEAD_OUT)),  # type: ignore[dict-item]  # three
        "explorer": tuple(sessions * _EXPLORER_CALLS * each for each in (1, _EXPLORER_IN, _EXPLORER_OUT)),  # type: ignore[dict-item]  # three
    }
    choices = resolve(settings, env)
    costs = {role: bound_usd(choices[role].model, one[1], one[2], settings.prices) for role, one in roles.items()}
    known = [cost for cost in costs.values() if cost is not None]
    return {
        "sessions": sessions,
        "windows": windows,
        "model_calls": sum(one[0] for one in roles.values()),
        "tokens_in": sum(one[1] for one in roles.values()),
        "tokens_out": sum(one[2] for one in roles.values()),
        "cost_usd": round(sum(known), 6) if len(known) == len(costs) else None,
        "unpriced_models": sorted({choices[role].model.model for role, cost in costs.items() if cost is None}),
    }
