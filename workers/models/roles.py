"""From a role's choice to a pydantic-ai model: the provider's client, its settings, and the fallbacks behind it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from pydantic_ai.models import Model
from pydantic_ai.models.fallback import FallbackModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from lerim_jobs.config import Role
from lerim_jobs.providers import OFFLINE, PROVIDERS, ModelChoice, RoleChoice
from workers.models.gate import GatedModel
from workers.models.provider_errors import worth_falling_back
from workers.models.wire import http_hooks

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["build"]

_NO_KEY = "none"


def build(choice: RoleChoice, role: Role, *, env: Mapping[str, str]) -> Model:
    """The role's model. SDK retries are off: retrying has one owner, and it is not the SDK."""
    models = [_gated(one, role, env) for one in (choice.model, *choice.fallbacks)]
    return models[0] if len(models) == 1 else FallbackModel(*models, fallback_on=worth_falling_back)


def _gated(choice: ModelChoice, role: Role, env: Mapping[str, str]) -> Model:
    if choice.provider == OFFLINE:
        from workers.models.offline import offline_model

        return GatedModel(offline_model(), choice)
    return GatedModel(_model(choice, role, _key(choice, env)), choice)


def _key(choice: ModelChoice, env: Mapping[str, str]) -> str:
    spec = PROVIDERS.get(choice.provider)
    variable = choice.key_variable or (spec.key_variable if spec else None)
    return (env.get(variable) if variable else None) or _NO_KEY


@lru_cache(maxsize=64)
def _model(choice: ModelChoice, role: Role, key: str) -> Model:
    """One client per model and process: its connections are reused by all stages on the one loop."""
    settings: dict[str, Any] = {"timeout": role.timeout_seconds, "max_tokens": role.max_output_tokens}
    if role.thinking is not None:
        settings["thinking"] = role.thinking
    if choice.provider == "anthropic":
        return _anthropic(choice, key, settings)
    return _openai_compatible(choice, role, _openai_client(choice, key, role.timeout_seconds), settings)


def _openai_compatible(choice: ModelChoice, role: Role, client: AsyncOpenAI, settings: dict[str, Any]) -> Model:
    given = cast("Any", settings)
    if choice.provider == "openrouter" and "/" in choice.model:
        from pydantic_ai.providers.openrouter import OpenRouterProvider

        from workers.models.openrouter import LenientOpenRouterModel

        # OpenRouter knows what a call cost; it only says so when asked.
        settings["openrouter_usage"] = {"include": True}
        if role.openrouter_provider_order:
            settings["openrouter_provider"] = {"order": list(role.openrouter_provider_order)}
        return LenientOpenRouterModel(choice.model, provider=OpenRouterProvider(openai_client=client), settings=given)
    if choice.provider == "zai":
        from pydantic_ai.models.zai import ZaiModel
        from pydantic_ai.providers.zai import ZaiProvider

        return ZaiModel(choice.model, provider=ZaiProvider(openai_client=client), settings=given)
    if choice.provider == "ollama":
        from pydantic_ai.models.ollama import OllamaModel
        from pydantic_ai.providers.ollama import OllamaProvider

        return OllamaModel(choice.model, provider=OllamaProvider(openai_client=client), settings=given)
    if choice.provider != "openai":
        # Servers that only resemble OpenAI know the older name of this setting.
        settings["extra_body"] = {"max_tokens": settings.pop("max_tokens")}
    return OpenAIChatModel(choice.model, provider=OpenAIProvider(openai_client=client), settings=given)


def _openai_client(choice: ModelChoice, key: str, timeout_s: float) -> AsyncOpenAI:
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    client = DefaultAsyncHttpxClient(timeout=timeout_s, event_hooks=http_hooks())
    return AsyncOpenAI(base_url=choice.api_base, api_key=key, max_retries=0, timeout=timeout_s, http_client=client)


def _anthropic(choice: ModelChoice, key: str, settings: dict[str, Any]) -> Model:
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    http = DefaultAsyncHttpxClient(timeout=settings["timeout"], event_hooks=http_hooks())
    # The SDK adds the version itself; people copy addresses that end in it.
    base = choice.api_base.rstrip("/").removesuffix("/v1")
    client = AsyncAnthropic(base_url=base, api_key=key, max_retries=0, timeout=settings["timeout"], http_client=http)
    provider = AnthropicProvider(anthropic_client=client)
    return AnthropicModel(choice.model, provider=provider, settings=cast("Any", settings))
