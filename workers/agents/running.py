"""Running an agent whose work is done by its tools: it ends with the last decision, without a closing sentence to pay for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic_ai import Agent

from lerim_jobs.config import RoleName
from workers.models import Models

__all__ = ["run_until"]

D = TypeVar("D")


def run_until(
    models: Models, agent: Agent[D, str], prompt: str, *, deps: D, role: RoleName, done: Callable[[], bool]
) -> None:
    """Run until the agent ends, or before the first request that it needs no more because everything is `done`.

    Raises as `Models.run`.
    """

    async def work() -> None:
        async with agent.iter(prompt, deps=deps, model=models.model(role), usage_limits=models.limits(role)) as run:
            async for node in run:
                if Agent.is_model_request_node(node) and done():
                    return

    models.run(work, role=role)
