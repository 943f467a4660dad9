"""From a role's choice to a pydantic-ai model: the provider's client, its time-out, and the fallbacks behind it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import cast

from pydantic_ai.models import Model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.settings import ModelSettings

from lerim_jobs.providers import OFFLINE, ModelChoice, RoleChoice
from workers.models.faults import worth_falling_back

__all__ = ["build"]

_NO_KEY = "none"


def build(choice: RoleChoice, *, timeout_s: float, env: Mapping[str, str]) -> Model:
    """The role's model. SDK retries are off: retrying has one owner, and it is not the SDK."""
    models = [_model(one, timeout_s, _key(one, env)) for one in (choice.model, *choice.fallbacks)]
    return models[0] if len(models) == 1 else FallbackModel(*models, fallback_on=worth_falling_back)


def _key(choice: ModelChoice, env: Mapping[str, str]) -> str:
    from lerim_jobs.providers import PROVIDERS

    spec = PROVIDERS.get(choice.provider)
    variable = choice.key_variable or (spec.key_variable if spec else None)
    return (env.get(variable) if variable else None) or _NO_KEY


@lru_cache(maxsize=64)
def _model(choice: ModelChoice, timeout_s: float, key: str) -> Model:
    """One client per model and process: its connections are reused by all stages on the one loop."""
    if choice.provider == OFFLINE:
        from workers.models.offline import offline_model

        return offline_model()
    # `max_retries` is passed on to the provider's client for each request, though the settings' type does not list it.
    settings = cast("ModelSettings", {"max_retries": 0, "timeout": timeout_s})
    if choice.provider == "anthropic":
        from pydantic_ai.models.anthropic import AnthropicModel
        from pydantic_ai.providers.anthropic import AnthropicProvider

        return AnthropicModel(
            choice.model, provider=AnthropicProvider(api_key=key, base_url=choice.api_base), settings=settings
        )
    return _openai_compatible(choice, key, settings)


def _openai_compatible(choice: ModelChoice, key: str, settings: ModelSettings) -> Model:
    if choice.provider == "openrouter" and choice.key_variable:
        from pydantic_ai.models.openrouter import OpenRouterModel
        from pydantic_ai.providers.openrouter import OpenRouterProvider

        return OpenRouterModel(choice.model, provider=OpenRouterProvider(api_key=key), settings=settings)
    provider = OpenAIProvider(base_url=choice.api_base, api_key=key)
    return OpenAIChatModel(choice.model, provider=provider, settings=settings)
