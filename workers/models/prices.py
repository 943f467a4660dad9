"""What a call costs, and the most it may cost: the provider's own word, then the user's prices, then the bundled table.

Unknown is None, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping

from genai_prices import Usage, calc_price
from pydantic_ai.messages import ModelResponse

from lerim_jobs.config import Price
from lerim_jobs.providers import OFFLINE, ModelChoice

__all__ = ["bound_usd", "cost_usd", "input_bound"]


def cost_usd(response: ModelResponse, choice: ModelChoice, prices: Mapping[str, Price]) -> float | None:
    """US dollars for an answer, or None when nobody knows the price. The offline model is free."""
    if choice.provider == OFFLINE:
        return 0.0
    reported = (response.provider_details or {}).get("cost")
    if isinstance(reported, int | float):
        return float(reported)
    usage = response.usage
    if own := _own_price(choice, prices):
        return own.cost(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens)
    try:
        return float(response.cost().total_price)
    except (LookupError, AssertionError, ValueError):
        counted = Usage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
        )
        return _from_table(choice, counted)


def bound_usd(choice: ModelChoice, tokens_in: int, tokens_out: int, prices: Mapping[str, Price]) -> float | None:
    """The most a call with so many tokens can cost, or None when nobody knows the price."""
    if choice.provider == OFFLINE:
        return 0.0
    if own := _own_price(choice, prices):
        return own.cost(tokens_in, tokens_out)
    return _from_table(choice, Usage(input_tokens=tokens_in, output_tokens=tokens_out))


def input_bound(request_bytes: int) -> int:
    """Tokens a request may come to. English has 4 bytes a token, code 3, nothing that people write has less than 2."""
    return request_bytes // 2 + 200


def _own_price(choice: ModelChoice, prices: Mapping[str, Price]) -> Price | None:
    return prices.get(f"{choice.provider}:{choice.model}") or prices.get(choice.model)


def _from_table(choice: ModelChoice, usage: Usage) -> float | None:
    for where in ({"provider_api_url": choice.api_base}, {"provider_id": choice.provider}):
        try:
            return float(calc_price(usage, choice.model, **where).total_price)  # type: ignore[call-overload]
        except (LookupError, ValueError):
            continue
    return None
