"""What an answer cost, from the price table bundled with the library; unknown is None, never 0."""

from __future__ import annotations

from pydantic_ai.messages import ModelResponse

from workers.models.offline import MODEL_NAME

__all__ = ["cost_usd"]


def cost_usd(response: ModelResponse) -> float | None:
    """US dollars, or None when nobody knows the price. The offline model is free."""
    if response.model_name == MODEL_NAME:
        return 0.0
    try:
        return float(response.cost().total_price)
    except (LookupError, AssertionError, ValueError):
        return None
