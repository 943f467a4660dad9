"""OpenRouter, and what stands in for it: a proxy that leaves out OpenRouter's own fields is no reason to fail."""

from __future__ import annotations

from typing import Any

from openai.types import chat
from pydantic_ai.models.openrouter import OpenRouterModel

__all__ = ["LenientOpenRouterModel"]


class LenientOpenRouterModel(OpenRouterModel):
    """Accepts answers without `provider` and `native_finish_reason`; everything else is checked as usual."""

    def _validate_completion(self, response: chat.ChatCompletion) -> Any:
        known: Any = response
        if getattr(response, "choices", None):
            if getattr(response, "provider", None) is None:
                known.provider = "unknown"
            for choice in known.choices:
                if not hasattr(choice, "native_finish_reason"):
                    choice.native_finish_reason = choice.finish_reason
        return super()._validate_completion(response)
